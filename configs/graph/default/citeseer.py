_base_ = "cora.py"
data = "citeseer"
settings = ["tran"]

_base_ = "cora.py"
data = "photo"
settings = ["tran"]

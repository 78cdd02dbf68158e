_base_ = "cora.py"
data = "computers"
settings = ["tran"]

_base_ = "cora.py"
data = "cane_cora"
settings = ["tran"]

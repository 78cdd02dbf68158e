_base_ = "cane_cora.py"
data = dict(type="cane_cora", split="shares")

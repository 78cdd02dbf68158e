_base_ = "cane_cora.py"
data = dict(_delete_=True, type="cane_cora", split="shares")

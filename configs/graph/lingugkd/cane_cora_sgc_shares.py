_base_ = "cane_cora_sgc.py"
data = dict(_delete_=True, type="cane_cora", split="shares")

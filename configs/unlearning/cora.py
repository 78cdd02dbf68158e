_base_ = "../_base_/unlearning.py"
data = "cora"

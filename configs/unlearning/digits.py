# Seconds.
_base_ = "../_base_/unlearning.py"
data = "digits"
teacher = dict(hidden=32, width=16, epochs=60)

# Seconds.
_base_ = "../_base_/unlearning.py"
data = "digits"
teacher = dict(hidden=32, width=16, epochs=60)
methods = [dict(type="d2dgn", epochs=50), dict(type="gnndelete", epochs=50, lr=0.01), dict(type="gradient_ascent")]

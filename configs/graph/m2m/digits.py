_base_ = "../../_base_/graph.py"
data = "digits"
student = dict(hidden=[128, 128])
methods = [dict(type="glnn", lam=0.5), dict(type="m2m", lam=0.5, wide=256, epochs=30)]

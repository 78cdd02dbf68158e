_base_ = "../../_base_/graph.py"
data = "digits"
methods = [dict(type="glnn", lam=0.5), dict(type="dho", lam=0.5)]

_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
methods = [dict(type="glnn", lam=0.5), dict(type="dho", lam=0.5)]

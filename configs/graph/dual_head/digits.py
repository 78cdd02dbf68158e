_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
# beside it the same loss on the only head there is
methods = [dict(type="terms", distills=[dict(loss="dhkd")], lam=0.5), dict(type="dual_head", lam=0.5)]

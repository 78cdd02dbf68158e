_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="terms", distills=[dict(loss="kl", weight=0.5), dict(loss="dist", weight=0.5)]),
    dict(type="terms", distills=[dict(loss=dict(type="balance", losses=["kl", "dist"]))]),
]

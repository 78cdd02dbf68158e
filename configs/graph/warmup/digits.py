# The labels first: the teacher's part grows over the first 20 epochs.
_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="terms", distills=[dict(loss="kl")], lam=0.3),
    dict(type="terms", distills=[dict(loss=dict(type="warmup", loss="kl", epochs=20))], lam=0.3),
]

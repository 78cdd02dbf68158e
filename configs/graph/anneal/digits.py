# The temperature of the targets: low, high, and from high to low.
_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="terms", distills=[dict(loss=dict(type="kd", tau=1.0))]),
    dict(type="terms", distills=[dict(loss=dict(type="kd", tau=3.0))]),
    dict(type="terms", distills=[dict(loss=dict(type="anneal", loss="kd", start=3.0, end=1.0))]),
]

_base_ = "../../_base_/graph.py"
data = "digits"
teacher = [dict(type="sage", epochs=100), dict(type="gcn", epochs=100)]
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="terms", distills=[dict(loss="meal")]),
    dict(type="terms", distills=[dict(loss=dict(type="adversary", classes=10, loss="meal", strength=0.1))]),
]

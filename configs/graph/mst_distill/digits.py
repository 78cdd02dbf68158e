_base_ = "../../_base_/graph.py"
data = "digits"
teacher = [dict(type="sage", epochs=100), dict(type="gcn", epochs=100), dict(type="appnp", epochs=100)]
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="mst_distill", lam=0.5),
    dict(type="terms", distills=[dict(loss=dict(type="average", loss=dict(type="kl", tau=4.0)))], lam=0.5),
    dict(type="terms", distills=[dict(loss=dict(type="mst_distill", classes=10, teachers=3))], lam=0.5),
    dict(type="terms", distills=[dict(loss=dict(type="mst_distill", classes=10, teachers=3, mask=0.0))], lam=0.5),
]

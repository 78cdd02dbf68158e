_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# all nodes mixed, the part of the published code, and none; lam=1: mixup and no teacher
methods = [
    *(dict(type="mixup", share=share) for share in (1.0, 0.41, 0.0)),
    dict(type="mixup", lam=1.0),
    dict(type="mixup", loss="kl"),
    dict(type="mixup", ask=True),
    dict(type="glnn", lam=0.1),
]

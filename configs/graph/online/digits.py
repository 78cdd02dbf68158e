_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
student = dict(hidden=[64], epochs=200)
scoring = ["accuracy", "neg_log_loss"]  # the second shows calibration
# the balance, either direction alone, a teacher that does not hear its student; and the teacher trained beforehand
methods = [
    dict(type="online"),
    *(dict(type="online", loss=dict(type=name, tau=4.0)) for name in ("kl", "rkl")),
    dict(type="online", heard=0.0),
    dict(type="terms", lam=0.5, distills=[dict(loss=dict(type="kl", tau=4.0))]),
]

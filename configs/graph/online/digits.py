_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=100)
scoring = ["accuracy", "neg_log_loss"]  # the second tells calibration, too
# the balance, either direction alone, a teacher that does not hear its student; and the teacher trained beforehand
methods = [
    dict(type="online"),
    *(dict(type="online", loss=name) for name in ("kl", "rkl")),
    dict(type="online", heard=0.0),
    dict(type="glnn", lam=0.5),
]

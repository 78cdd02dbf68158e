_base_ = "../../_base_/graph.py"
data = "cora"
# `glnn`, the default of `distill`; `ffg2m` with its paper's settings; and `ffg2m` evened out, with a little of the
# differences. The defaults of `ffg2m` are in ../default_share. The student's width and epochs keep a run short.
methods = [
    dict(type="glnn"),
    dict(type="ffg2m", lam=0.5, high=1.0, even=False),
    dict(type="ffg2m", lam=0.0, high=0.2, even=True),
]
student = dict(hidden=[64], epochs=200)

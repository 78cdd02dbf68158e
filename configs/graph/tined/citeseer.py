_base_ = "../../_base_/graph.py"
data = "citeseer"
# lam, rate, pace and the student's decay are the paper's, and its dropout, 0; its learning rate is 1e-4. Its energy is
# 10, in a step of its own. Not measured here.
settings = ["tran"]
teacher = dict(dropout=0.8, weight_decay=0.01)
student = dict(hidden=[128], dropout=0.0, lr=0.005, weight_decay=0.01)
methods = [
    dict(type="glnn"),
    *[dict(type="tined", lam=0.5, energy=energy, rate=0.1, pace=0.5) for energy in (1.0, 0.1, 0.01, 0.0)],
]

_base_ = "../../_base_/graph.py"
data = "computers"
# lam, energy, rate, pace, start, form, norm, dropout and lr are the paper's for this teacher, and not measured here.
student = dict(hidden=[128], dropout=0.3, norm="batch", lr=0.005)
methods = [
    dict(type="glnn"),
    dict(type="tined", lam=0.5, energy=0.1, rate=0.1, pace=0.01, start="random", form="exp"),
]

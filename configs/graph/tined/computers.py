_base_ = "../../_base_/graph.py"
data = "computers"
# lam, energy (0.1 beside both terms), rate, pace, start, form, norm and dropout are the paper's, and not measured here.
student = dict(hidden=[128], dropout=0.3, norm="batch", lr=0.005)
methods = [
    dict(type="glnn"),
    dict(type="tined", lam=0.5, energy=0.2, rate=0.1, pace=0.01, start="random", form="exp"),
]

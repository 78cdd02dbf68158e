_base_ = "../../_base_/graph.py"
data = "citeseer"
# lam, rate and pace are the paper's, energy and the rest as chosen on Cora.
teacher = dict(dropout=0.8, weight_decay=0.01)
student = dict(hidden=[128])
methods = [
    dict(type="glnn"),
    dict(type="tined", lam=0.5, energy=1.0, rate=0.1, pace=0.5),
    dict(type="tined", lam=0.5, energy=0.1, rate=0.1, pace=0.5),
    dict(type="tined", lam=0.5, energy=0.0, rate=0.1, pace=0.5),
]

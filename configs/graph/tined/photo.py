_base_ = "../../_base_/graph.py"
data = "photo"
# lam, energy, rate, pace, form, norm, dropout, lr and decay are the paper's for this teacher, and not measured here.
student = dict(hidden=[128], dropout=0.5, norm="layer", lr=0.001, weight_decay=1e-3)
methods = [dict(type="glnn"), dict(type="tined", lam=0.5, energy=0.1, rate=0.1, pace=0.1, form="exp")]

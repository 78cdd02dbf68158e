_base_ = "../../_base_/graph.py"
data = "citeseer"
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.1, tau=1.2, pairs=2000)]

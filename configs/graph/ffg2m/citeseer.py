_base_ = "../../_base_/graph.py"
data = "citeseer"
# lam and tau are the paper's; dropout and decay of the teacher were chosen on Cora's validation nodes.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.1, tau=1.2, pairs=2000, high=1.0, even=False)]

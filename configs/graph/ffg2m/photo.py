_base_ = "../../_base_/graph.py"
data = "photo"
# lam and tau are the paper's.
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.2, tau=1.5, pairs=7500, high=1.0, even=False)]
student = dict(dropout=0.4, lr=0.005)

_base_ = "../../_base_/graph.py"
data = "photo"
# lam and tau are the paper's.
student = dict(dropout=0.4, lr=0.005)
methods = [dict(type="glnn"), dict(type="krd", lam=0.0, tau=1.1)]

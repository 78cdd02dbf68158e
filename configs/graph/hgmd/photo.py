_base_ = "../../_base_/graph.py"
data = "photo"
# lam, tau, alpha and beta are the paper's for a GCN teacher, the only one it has them for.
student = dict(dropout=0.4, lr=0.005)
methods = [dict(type="glnn"), dict(type="hgmd", lam=0.2, tau=0.9, alpha=10.0, beta=0.5)]

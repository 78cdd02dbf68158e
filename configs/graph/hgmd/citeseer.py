_base_ = "../../_base_/graph.py"
data = "citeseer"
# lam, tau, alpha and beta are the paper's for a GCN teacher; dropout and decay of the teacher were chosen on Cora.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="hgmd", lam=0.0, tau=1.1, alpha=5.0, beta=0.4)]

_base_ = "../../_base_/graph.py"
data = "computers"
# No setting is known for this graph; these are the paper's for Photo and a GCN teacher.
student = dict(dropout=0.4, lr=0.005)
methods = [dict(type="glnn"), dict(type="hgmd", lam=0.2, tau=0.9, alpha=10.0, beta=0.5)]

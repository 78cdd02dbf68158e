_base_ = "../../_base_/graph.py"
data = "cora"
# lam and tau are the paper's; dropout and decay of the teacher were chosen on Cora's validation nodes.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="krd", lam=0.3, tau=1.1)]

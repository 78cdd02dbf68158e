_base_ = "../../_base_/graph.py"
data = "pubmed"
# lam and tau are the paper's, the student that of glnn.
student = dict(hidden=[128], dropout=0.4, lr=0.005, weight_decay=0.0)
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.0, tau=1.3, pairs=19000, high=1.0, even=False)]

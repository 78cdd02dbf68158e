_base_ = "../../_base_/graph.py"
data = "cora"
# tau and lam are the paper's; the teacher's dropout and decay, the student's width and dropout chosen on validation.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.5, tau=1.3, pairs=2500)]

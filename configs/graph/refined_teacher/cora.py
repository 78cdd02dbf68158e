_base_ = "../../_base_/graph.py"
data = "cora"
# The teacher is that of ffg2m/cora.py. decay was chosen on validation between 0.01 and 0.03.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [
    dict(type="glnn"),
    dict(type="ffg2m", lam=0.5, tau=1.3, pairs=2500, high=1.0, even=False),
    dict(type="krd", lam=0.3, tau=1.1),
    dict(type="hgmd", lam=0.1, tau=0.9, alpha=5.0, beta=0.3),
    dict(type="curvature", caw=0.1),
    dict(type="refined_teacher", decay=0.01, fit=False),
]

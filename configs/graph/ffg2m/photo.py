_base_ = "../../_base_/graph.py"
data = "photo"
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.5, tau=1.3)]

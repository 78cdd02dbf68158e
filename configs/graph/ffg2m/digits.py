_base_ = "../../_base_/graph.py"
data = "digits"
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.5, tau=1.3, high=1.0, even=False)]

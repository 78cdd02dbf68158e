_base_ = "../../_base_/graph.py"
data = "cs"
# lam and tau are the paper's.
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.5, tau=1.4, pairs=18000, high=1.0, even=False)]

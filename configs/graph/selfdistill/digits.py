_base_ = "../../_base_/graph.py"
data = "digits"
methods = [dict(type="glnn", lam=0.5), dict(type="selfdistill", method="glnn")]

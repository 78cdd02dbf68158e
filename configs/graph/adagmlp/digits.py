_base_ = "../../_base_/graph.py"
data = "digits"
methods = [dict(type="glnn"), dict(type="adagmlp", members=2, tau=1.0)]

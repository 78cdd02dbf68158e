_base_ = "../../_base_/graph.py"
data = "digits"
# All students are asked, or one and a half in the mean.
methods = [dict(type="glnn"), dict(type="progmlp", confidence=None), dict(type="progmlp", budget=1.5)]

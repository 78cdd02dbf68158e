_base_ = "../../_base_/graph.py"
data = "cora"
# Teacher and student are those of the other recipes on this graph. All students are asked, or one and a half in the
# mean.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="progmlp", confidence=None), dict(type="progmlp", budget=1.5)]

_base_ = "../../_base_/graph.py"
data = "cora"
teacher = dict(type="large_gt")
methods = [dict(type="glnn")]

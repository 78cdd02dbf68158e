_base_ = "../../_base_/graph.py"
data = "cora"
methods = [dict(type="glnn")]

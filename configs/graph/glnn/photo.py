_base_ = "../../_base_/graph.py"
data = "photo"
methods = [dict(type="glnn")]

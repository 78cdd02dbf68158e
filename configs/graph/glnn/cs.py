_base_ = "../../_base_/graph.py"
data = "cs"
methods = [dict(type="glnn")]

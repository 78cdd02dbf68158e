_base_ = "../../_base_/graph.py"
data = "computers"
methods = [dict(type="glnn")]

_base_ = "../../_base_/graph.py"
data = "citeseer"
methods = [dict(type="glnn")]

_base_ = "../../_base_/graph.py"
data = "citeseer"
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn")]

_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(type="large_gt", epochs=100)
methods = [dict(type="glnn")]

_base_ = "../../_base_/graph.py"
data = "photo"
student = dict(dropout=0.4, lr=0.005)
methods = [dict(type="glnn")]

_base_ = "../../_base_/graph.py"
data = "computers"
student = dict(dropout=0.4, lr=0.005)
methods = [dict(type="glnn")]

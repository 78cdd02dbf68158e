_base_ = "../../_base_/graph.py"
data = "cora"  # a word is a field
teacher = dict(type="catgcn")
methods = [dict(type="glnn")]

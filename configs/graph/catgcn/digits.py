_base_ = "../../_base_/graph.py"
data = "digits"  # pixels weigh their fields
teacher = dict(type="catgcn", epochs=100)
methods = [dict(type="glnn")]

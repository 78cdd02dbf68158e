_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(type="vqsage", codes=128, width=32)
methods = [dict(type="glnn"), dict(type="vqgraph")]

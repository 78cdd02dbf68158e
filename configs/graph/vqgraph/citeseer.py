_base_ = "../../_base_/graph.py"
data = "citeseer"
# As for Cora.
teacher = dict(type="vqsage", dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="vqgraph")]

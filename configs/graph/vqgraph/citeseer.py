_base_ = "../../_base_/graph.py"
data = "citeseer"
# Dropout and decay are those of the plain teacher, chosen on Cora's validation nodes. Nothing else is tuned: codes,
# width and the weights of the losses are our own, tau is the authors'.
teacher = dict(type="vqsage", dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="vqgraph")]
settings = ["tran"]

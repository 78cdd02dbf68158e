# Molecules that are mutagenic or not: sets of 2-hop trees in place of 150 graphs, for three networks of two layers.
data = dict(type="mutag", split=dict(type="shares", train=0.8, val=0.1))
methods = [dict(type="mirage", hops=2)]
thresholds = [0.1, 0.3]
students = ["gcn", "gat", "gin"]
student = dict(hidden=32, dropout=0.2, lr=0.01, weight_decay=5e-4, epochs=20, patience=20, batch_size=32)
steps = 10
scoring = ["roc_auc", "accuracy"]

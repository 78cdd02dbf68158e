_base_ = "../../_base_/graph.py"
data = "cora"
# lam, structure, pretrain, walks and length of the second are the authors'. Teacher and student are those of the other
# recipes on this graph.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [
    dict(type="glnn"),
    dict(type="sale_mlp", lam=0.6, structure=2.5, pretrain=10, walks=3, length=20),
    dict(type="sale_mlp", structure=0.1),
]

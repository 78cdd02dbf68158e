_base_ = "../../_base_/graph.py"
data = "citeseer"
# Weight of the relations, bound of the attack and the walks are the paper's; as many nodes are attacked in a step as
# its batches hold. Teacher and student are those of the other recipes on this graph.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [
    dict(type="glnn"),
    dict(type="nosmog", relation=0.1, eps=0.045, draw=512, inputs=dict(width=16, walks=3, length=50, window=5)),
]

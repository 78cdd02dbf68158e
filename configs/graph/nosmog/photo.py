_base_ = "../../_base_/graph.py"
data = "photo"
# Weight of the relations, bound of the attack, length and number of the walks and their width are the paper's, the
# window is that of Cora; as many nodes are attacked in a step as the paper's batches hold.
methods = [
    dict(type="glnn"),
    dict(type="nosmog", relation=1e-9, eps=0.1, draw=512, inputs=dict(width=64, walks=1, length=30, window=5)),
]
student = dict(dropout=0.4, lr=0.005)

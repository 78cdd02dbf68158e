_base_ = "../../_base_/graph.py"
data = "cora"
# Members, tau, lam, beta and mask, without which nothing is aligned, are those of the authors' command for this
# teacher. Teacher and student are those of the other recipes on this graph. Not measured here.
settings = ["tran"]
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [
    dict(type="glnn"),
    dict(type="adagmlp", lam=0.5, members=2, tau=0.9, beta=4.0, mask=0.0),
    dict(type="adagmlp", lam=0.5, members=2, tau=0.9, beta=4.0, mask=0.0, carry=False),
]

_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# share of the nodes that is kept, and weight of the labels: 1 is the same data and no teacher
methods = [
    dict(type="pruned", keep=keep, method=dict(type="glnn", lam=lam))
    for keep in (0.1, 0.3, 1.0)
    for lam in (0.0, 0.5, 1.0)
]

_base_ = "../../_base_/graph.py"
data = "cora"
# The weights, tau and 2 hops are the authors' for this teacher; teacher and student are those of the other recipes on
# this graph. The third listens to all nodes alike, and the fourth sees the features as they are.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [
    dict(type="glnn"),
    dict(type="infgrand"),
    dict(type="infgrand", labels=[0.8, 0.0], edges=[1.0, 0.0]),
    dict(type="infgrand", inputs=dict(hops=0)),
]

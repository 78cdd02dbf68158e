_base_ = "../../_base_/graph.py"
data = "digits"
# The third listens to all nodes alike, and the fourth sees the features as they are.
methods = [
    dict(type="glnn"),
    dict(type="infgrand"),
    dict(type="infgrand", labels=[0.8, 0.0], edges=[1.0, 0.0]),
    dict(type="infgrand", inputs=dict(hops=0)),
]

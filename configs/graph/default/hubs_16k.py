_base_ = "../../_base_/graph.py"
data = dict(type="hubs", nodes=16000, homophily=0.6, signal=0.15, seed=2)
# As hubs.py, with 16,000 nodes.
methods = [
    dict(type="glnn"),
    dict(type="ffg2m", lam=0.5, high=1.0, even=False),
    dict(type="ffg2m", lam=0.0, high=0.2, even=True),
]
student = dict(hidden=[64], epochs=200)
settings = ["tran"]

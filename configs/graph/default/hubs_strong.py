_base_ = "../../_base_/graph.py"
data = dict(type="hubs", nodes=5000, classes=5, cites=2, exponent=1.8, homophily=0.7, signal=0.12, seed=1)
# As hubs.py, with greater hubs, fewer citations and words that say less.
methods = [
    dict(type="glnn"),
    dict(type="ffg2m", lam=0.5, high=1.0, even=False),
    dict(type="ffg2m", lam=0.0, high=0.2, even=True),
]
student = dict(hidden=[64], epochs=200)
settings = ["tran"]

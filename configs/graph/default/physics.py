_base_ = "../../_base_/graph.py"
data = "physics"
# As cora.py, with fewer epochs: on so many nodes they take long, and they are enough for all of them to level off.
methods = [
    dict(type="glnn"),
    dict(type="ffg2m", lam=0.5, high=1.0, even=False),
    dict(type="ffg2m", lam=0.0, high=0.2, even=True),
]
teacher = dict(epochs=60)
student = dict(hidden=[64], epochs=60)
settings = ["tran"]

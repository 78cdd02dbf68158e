_base_ = "../../_base_/graph.py"
data = dict(type="hubs", nodes=5000, homophily=0.65, signal=0.15)
# As cora.py, on a graph of few hubs with up to 1,200 neighbours; from the paper's ffg2m step by step;
# and refined_teacher as its parts were chosen on Cora; its defaults are in ../default_refined_teacher.
methods = [
    dict(type="glnn"),
    dict(type="ffg2m", lam=0.5, high=1.0, even=False),
    dict(type="ffg2m", lam=0.5, high=0.0, even=False),
    dict(type="ffg2m", lam=0.0, high=0.0, even=False),
    dict(type="ffg2m", lam=0.0, high=0.2, even=True),
    dict(type="refined_teacher", decay=0.01, fit=False),
]
student = dict(hidden=[64], epochs=200)
settings = ["tran"]

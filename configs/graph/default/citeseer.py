_base_ = "../../_base_/graph.py"
data = "citeseer"
# glnn, which `distill` takes when no method is named, beside ffg2m with its paper's settings, and evened out with a
# little of the differences; its own defaults are in ../default_share. Nothing is tuned. The student's width and epochs
# keep a run short.
methods = [
    dict(type="glnn"),
    dict(type="ffg2m", lam=0.5, high=1.0, even=False),
    dict(type="ffg2m", lam=0.0, high=0.2, even=True),
]
student = dict(hidden=[64], epochs=200)
settings = ["tran"]

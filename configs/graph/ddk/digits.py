_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# domains by class and by degree; floor=1 draws all domains alike
methods = [
    dict(type="glnn"),
    dict(type="ddk"),
    dict(type="ddk", domains="degree"),
    dict(type="ddk", floor=1.0),
    dict(type="ddk", method=dict(type="ffg2m", lam=0.5, high=1.0, even=False)),
]

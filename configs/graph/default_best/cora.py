_base_ = "../default/cora.py"
methods = [
    dict(type="glnn"),
    dict(type="best", decay=0.01, fit=False),
    dict(type="best"),
]  # as in ../best, and as it is
settings = ["tran"]

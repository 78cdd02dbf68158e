_base_ = "../default/cora.py"
methods = [
    dict(type="glnn"),
    dict(type="refined_teacher", decay=0.01, fit=False),
    dict(type="refined_teacher"),
]  # as in ../refined_teacher, and as it is
settings = ["tran"]

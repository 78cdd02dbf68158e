_base_ = "../../_base_/graph.py"
data = "digits"
# The same without an exit, with a budget, and of a single student.
methods = [
    dict(type="glnn"),
    dict(type="progmlp"),
    dict(type="progmlp", confidence=None),
    dict(type="progmlp", budget=1.5),
    dict(type="progmlp", members=1),
]

_base_ = "../../_base_/graph.py"
data = "digits"
student = dict(hidden=[128], norm="batch")
methods = [
    dict(type="glnn"),
    dict(type="simmlp", epochs=60, lr=0.003),
    dict(type="simmlp", epochs=60, lr=0.003, method="glnn"),
]

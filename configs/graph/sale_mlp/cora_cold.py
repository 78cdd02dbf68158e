_base_ = "../../_base_/graph.py"
data = "cora"
# Nodes without edges: students of features alone, of two hidden layers, which `simmlp` asks for. Options are selected
# by the validation accuracy.
settings = ["ind"]
teacher = dict(dropout=0.8, weight_decay=0.01)
student = dict(hidden=[256, 256], norm="batch")
methods = [
    dict(type="glnn"),
    dict(type="sale_mlp", structure=0.1),
    dict(type="sale_mlp", structure=0.5),
    dict(type="simmlp", method="glnn"),
    dict(type="simmlp", method="refined_teacher"),
]

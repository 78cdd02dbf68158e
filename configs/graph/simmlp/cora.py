_base_ = "../../_base_/graph.py"
data = "cora"
# Masks, hops, power and the student's norm are the authors'. Epochs are fewer at a higher learning rate, and the
# student has one hidden layer of 256 where theirs has two of 512, to keep a run short. Chosen on validation, on one
# split: 72.4 with lr 0.001 and 60 epochs, 78.1 with 0.003 and 150, 80.0 with these; glnn 82.4.
teacher = dict(dropout=0.8, weight_decay=0.01)
student = dict(norm="batch")
methods = [
    dict(type="glnn"),
    dict(type="simmlp", epochs=100, lr=0.01, rebuild=1.0),
    dict(type="simmlp", epochs=100, lr=0.01, rebuild=1.0, method="glnn"),
]

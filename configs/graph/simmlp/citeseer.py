_base_ = "../../_base_/graph.py"
data = "citeseer"
# Masks, hops, power, decay, layers of the predictor and the student's norm are the authors'; the rest as on Cora.
teacher = dict(dropout=0.8, weight_decay=0.01)
student = dict(norm="batch")
methods = [
    dict(type="glnn"),
    dict(
        type="simmlp",
        epochs=100,
        lr=0.01,
        rebuild=1.0,
        decay=5e-5,
        hops=3,
        feature_mask=0.75,
        edge_mask=0.5,
        power=3.0,
        predictor=1,
    ),
]

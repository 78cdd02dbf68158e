_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# selection, features and contrast, each alone and all together
student = dict(epochs=200)
methods = [
    dict(type="glnn"),
    dict(type="kd3", feature=0.0, contrast=0.0),
    dict(type="kd3", contrast=0.0, kappa=0.0),
    dict(type="kd3", feature=0.0, kappa=0.0),
    dict(type="kd3"),
    dict(type="terms", distills=[dict(loss=dict(type="confident", loss="dist", kappa=0.5))]),
]

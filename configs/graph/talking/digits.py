_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# consistency and interaction; without both it is glnn; its loss is one of the registry as well
student = dict(epochs=200)
methods = [
    dict(type="glnn"),
    dict(type="talking", interaction=0.0),
    dict(type="talking"),
    dict(
        type="terms",
        distills=[
            dict(loss="kl"),
            dict(loss=dict(type="talking", student_channels=256, teacher_channels=128), student="hidden", weight=0.1),
        ],
    ),
]

_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
# two bounds of the mask; 0 is the same without augmentation; and a teacher that is not asked about what it sees
student = dict(epochs=100)
methods = [
    *(dict(type="hard", bound=bound) for bound in (0.5, 0.2, 0.0)),
    dict(type="hard", bound=0.5, ask=False),
]

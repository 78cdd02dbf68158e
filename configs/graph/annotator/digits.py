_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# the same budget of labels, which the teacher gives: chosen and filtered, and drawn at random
methods = [
    dict(type="glnn"),
    dict(type="annotator"),
    dict(type="annotator", select="random", drop=0.0),
]

_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# the same budget of answers, chosen and drawn at random; all of them; and chosen for another loss
methods = [
    dict(type="rad", budget=0.1),
    dict(type="rad", budget=0.1, select="random"),
    dict(type="glnn"),
    dict(type="rad", budget=0.1, method=dict(type="terms", distills=[dict(loss="dist")])),
]

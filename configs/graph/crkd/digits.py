# The teacher knows the digits 0 to 4; how sure the student is that a node is one of them weighs it.
_base_ = "../../_base_/digits.py"
teacher = dict(known=[0, 1, 2, 3, 4])
methods = [
    dict(type="terms", distills=[dict(loss=dict(type="crkd", known=[0, 1, 2, 3, 4], detach_weight=True))], lam=0.5),
    dict(type="terms", distills=[dict(loss=dict(type="crkd", known=[0, 1, 2, 3, 4]))], lam=0.5),
]

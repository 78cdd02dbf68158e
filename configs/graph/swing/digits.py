# Two classes are private: noise softens what the teacher says of their nodes.
_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="kl")], lam=0.5),
    dict(type="terms", distills=[dict(loss=dict(type="swing", private=[3, 8]))], lam=0.5),
]

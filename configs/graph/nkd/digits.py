# Nodes without a label do not count in either: `ofa` is the cross-entropy with the teacher's probabilities.
_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="ofa")], lam=0.5),
    dict(type="terms", distills=[dict(loss="nkd")], lam=0.5),
]

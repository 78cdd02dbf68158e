# With gamma=1 nothing is enhanced: cross-entropy with the teacher's probabilities. Nodes with a label count alone.
_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="ofa")], lam=0.5),
    dict(type="terms", distills=[dict(loss=dict(type="ofa", gamma=1.5))], lam=0.5),
]

# By distances to prototypes; then the student trains itself, too, on labels of its own that prototypes confirm.
_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="kl")], lam=0.5),
    dict(type="terms", distills=[dict(loss="prokd", teacher="hidden")], lam=0.5),
    dict(type="terms", distills=[dict(loss=dict(type="prokd", self_training=1.0), teacher="hidden")], lam=0.5),
]

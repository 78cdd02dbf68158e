_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="kl")], lam=0.5),
    dict(type="terms", distills=[dict(loss="kl"), dict(loss="trg", student="hidden", weight="auto")], lam=0.5),
]

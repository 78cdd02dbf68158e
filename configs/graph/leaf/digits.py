_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="leaf", student="hidden", weight="auto")], lam=0.5),
]

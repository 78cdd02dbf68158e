# It reads no teacher: the control is what it is compared with.
_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="uskd", student="hidden")], lam=0.5),
]

_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="kl"), dict(loss="mse", student="hidden", weight="auto")], lam=0.5),
    dict(type="terms", distills=[dict(loss="kl"), dict(loss="norm_feature", student="hidden", weight="auto")], lam=0.5),
]

_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="kl")], lam=0.5),
    dict(
        type="terms",
        distills=[dict(loss="kl"), dict(loss=dict(type="comodo", size=512), student="hidden", weight="auto")],
        lam=0.5,
    ),
]

# Hidden layers are matched to the end, or to the middle of the training.
_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="kl"), dict(loss="cka", student="hidden")], lam=0.5),
    dict(
        type="terms",
        distills=[dict(loss="kl"), dict(loss=dict(type="until", loss="cka", stop=0.5), student="hidden")],
        lam=0.5,
    ),
]

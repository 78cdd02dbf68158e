# The teacher's hidden layer first, then both, then its predictions; then, of the labelled nodes alone: the task's data.
_base_ = "../../_base_/digits.py"
methods = [
    dict(type="terms", distills=[dict(loss="kl")], lam=0.5),
    dict(
        type="terms",
        distills=[
            dict(loss=dict(type="stages", losses=[(0.5, "cka"), (1.0, None)]), student="hidden"),
            dict(loss=dict(type="stages", losses=[(0.3, None), (1.0, "kl")])),
        ],
        lam=0.5,
    ),
    dict(
        type="progressive",
        parts=[(0.8, "all"), (1.0, "labelled")],
        method=dict(
            type="terms",
            distills=[
                dict(loss=dict(type="stages", losses=[(0.5, "cka"), (1.0, None)]), student="hidden"),
                dict(loss=dict(type="stages", losses=[(0.3, None), (1.0, "kl")])),
            ],
            lam=0.5,
        ),
    ),
]

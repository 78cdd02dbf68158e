# Federated, from deep to shallow: a client learns from all clients at first, and is left alone layer by layer.
# Own form: each layer is a term, the logits are the first to be left alone, the first hidden layer never. Hidden layers
# are compared by `cka`, for each client has axes of its own.
# Atapour et al., "FedD2S: Personalized Data-Free Federated Knowledge Distillation", 2024.
_base_ = "../../_base_/graph.py"
data = "digits"
teacher = [dict(type="sage", layers=3, hidden=64, epochs=100, shard=[k, 3]) for k in range(3)]
student = dict(hidden=[64, 64], epochs=200)
methods = [
    dict(type="terms", distills=[dict(loss="average")], lam=0.5),
    dict(
        type="terms",
        lam=0.5,
        distills=[
            dict(loss=dict(type="until", loss="average", stop=0.3)),
            *[
                dict(
                    loss=dict(type="until", loss="cka", stop=0.6),
                    weight=0.2,
                    student="hidden:1",
                    teacher=f"hidden:{2 * k + 1}",
                )
                for k in range(3)
            ],
            *[dict(loss="cka", weight=0.2, student="hidden:0", teacher=f"hidden:{2 * k}") for k in range(3)],
        ],
    ),
]

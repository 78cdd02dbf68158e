_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64, 64], epochs=200)
# the logits alone, and with a branch on each hidden layer
methods = [
    dict(type="terms", distills=[dict(loss="ofa")], lam=0.5),
    dict(
        type="terms",
        distills=[
            dict(loss="ofa"),
            dict(loss="ofa", student="hidden:0", teacher="logits", head="branch"),
            dict(loss="ofa", student="hidden:1", teacher="logits", head="branch"),
        ],
        lam=0.5,
    ),
]

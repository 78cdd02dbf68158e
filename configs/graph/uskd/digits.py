_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
# no teacher is read: the ranks of the weak head on the hidden layer, the student's own probability, or both
methods = [
    dict(
        type="terms",
        distills=[dict(loss=dict(type="uskd", mu=0.1, **weights), student="hidden", teacher="hidden")],
        lam=0.5,
    )
    for weights in (dict(alpha=0.0), dict(beta=0.0), {})
]

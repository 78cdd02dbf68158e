_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=100)
# beside a teacher; and the earlier steps of the student alone, as in the paper, against labels alone
methods = [
    dict(type="glnn"),
    dict(type="voting"),
    *(dict(type="voting", lam=0.5, taught=0.0, votes=votes) for votes in (1.0, 0.0)),
]

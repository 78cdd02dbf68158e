# The teacher's part falls tenfold at half and at four fifths of the training.
_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="terms", distills=[dict(loss="kl")], lam=0.3),
    dict(type="terms", distills=[dict(loss=dict(type="milestones", at=[0.5, 0.8]))], lam=0.3),
]

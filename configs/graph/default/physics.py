_base_ = "cora.py"
# As cora.py, with fewer epochs: many nodes make an epoch long, and these are enough.
data = "physics"
teacher = dict(epochs=60)
student = dict(epochs=60)
settings = ["tran"]

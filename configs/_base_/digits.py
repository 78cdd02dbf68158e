# What configs share that compare one loss with a plain one on the digits graph.
_base_ = "graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)

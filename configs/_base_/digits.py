# Configs that compare one loss with a plain one on the digits graph: in batches, for losses of pairs of nodes.
_base_ = "graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=60, batch_size=256)

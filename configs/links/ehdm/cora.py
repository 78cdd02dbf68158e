# The four heuristics that the authors teach with, over the training edges; llp is told by the graph network. Nothing is
# tuned: the authors search the weights of the losses, and train with an lr of 0.001 up to 100 epochs without a gain.
_base_ = "../../_base_/links.py"
data = "cora"
settings = ["tran"]
methods = [dict(type="llp"), dict(type="ehdm")]

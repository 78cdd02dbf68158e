# The margin, walks and shares of new nodes and test edges are the authors', as is lr; the weights of the losses are their
# defaults (0.1, 1, 1), which they search from 1e-3 to 1e3. Widths of 128 instead of 256 and mini-batches keep a run short.
_base_ = "../../_base_/links.py"
data = "cora"
methods = [dict(type="llp")]
settings = ["tran", dict(type="prod", new=0.3, val=0.3, test=0.3)]

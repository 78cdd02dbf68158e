# Margin, walks, lr and the shares of new nodes and test edges are the authors'; the weights of the losses are their
# defaults, 0.1 to 1 to 1, around which they search 1e-3 to 1e3. Widths of 128 for 256 and batches keep a run short.
_base_ = "../../_base_/links.py"
data = "citeseer"
methods = [dict(type="llp")]
settings = ["tran", dict(type="prod", new=0.3, val=0.3, test=0.3)]

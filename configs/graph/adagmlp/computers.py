_base_ = "../../_base_/graph.py"
data = "computers"
# No setting of the paper for this graph was at hand; all options are those on Photo, the graph most like it.
methods = [dict(type="glnn"), dict(type="adagmlp", lam=0.2, members=2, tau=0.1, beta=0.5, align=0.9, mask=0.1)]
student = dict(dropout=0.4, lr=0.005)

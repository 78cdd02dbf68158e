_base_ = "../../_base_/graph.py"
data = "computers"
# The authors have no command for this graph; all options are those on Photo, the graph most like it.
methods = [dict(type="glnn"), dict(type="adagmlp", lam=0.2, members=2, tau=0.1, beta=0.5, mask=0.0)]
student = dict(dropout=0.4, lr=0.005)

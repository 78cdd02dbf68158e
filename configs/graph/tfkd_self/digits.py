_base_ = "../../_base_/graph.py"
data = "digits"
# the same soft labels from a graph, from the student itself, and from itself after it learnt from the graph
methods = [dict(type="glnn", lam=0.5), dict(type="tfkd_self", lam=0.5), dict(type="tfkd_self", lam=0.5, method="glnn")]

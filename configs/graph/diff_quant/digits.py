_base_ = "../../_base_/graph.py"
data = "digits"
# two bits a weight: even points, and points that are learnt
methods = [dict(type="rounded", bits=2, method=dict(type="glnn", lam=0.3)), dict(type="diff_quant", bits=2)]

_base_ = "../../_base_/graph.py"
data = "digits"
# two bits a weight: taught through the rounding, and rounded after it was taught
methods = [
    dict(type="glnn", lam=0.3),
    dict(type="rounded", bits=2, method=dict(type="glnn", lam=0.3)),
    dict(type="quant_distill", bits=2),
]

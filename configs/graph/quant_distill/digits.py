_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# bits of a weight: rounded after it was taught, and taught through the rounding
methods = [
    dict(type="glnn", lam=0.3),
    *(dict(type="rounded", bits=bits, method=dict(type="glnn", lam=0.3)) for bits in (1, 2)),
    *(dict(type="quant_distill", bits=bits) for bits in (1, 2, 4, 8)),
]

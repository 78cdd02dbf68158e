_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# bits of a weight: even points, and points that are learnt
methods = [
    *(dict(type="rounded", bits=bits, method=dict(type="glnn", lam=0.3)) for bits in (1, 2)),
    *(dict(type="diff_quant", bits=bits) for bits in (1, 2, 4)),
]

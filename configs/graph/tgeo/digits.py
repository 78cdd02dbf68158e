_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# the ratio learnt, and fixed
methods = [dict(type="tgeo"), *(dict(type="tgeo", lam=lam) for lam in (0.5, 0.0))]

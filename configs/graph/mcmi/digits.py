_base_ = "../../_base_/graph.py"
data = "digits"
# without `tune`, the same teacher as configs/graph/glnn/digits.py
teacher = dict(type="sage", tune=dict(type="mcmi", lam=0.15, epochs=20))
methods = [dict(type="glnn")]

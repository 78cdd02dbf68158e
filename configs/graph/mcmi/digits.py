_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# the same teacher with and without `tune`; weights say which of the two is heard
teacher = [dict(type="sage", tune=dict(type="mcmi", lam=0.15, epochs=20)), dict(type="sage")]
methods = [dict(type="terms", distills=[dict(loss=dict(type="average", weights=heard))]) for heard in ([1, 0], [0, 1])]

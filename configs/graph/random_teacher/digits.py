_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(type="sage", epochs=0)  # glnn: what its students are worth if it was never trained
student = dict(dropout=0.0)
methods = [dict(type="glnn", lam=0.5), dict(type="random_teacher")]

_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(type="sage", epochs=0)  # glnn: what its students are worth if it was never trained
student = dict(dropout=0.0)
# random_teacher brings its own; with near=0 it is the probe of that teacher itself
methods = [dict(type="glnn", lam=0.5), dict(type="random_teacher", near=0.0), dict(type="random_teacher", near=0.3)]

_base_ = "../../_base_/graph.py"
data = "citeseer"
# The method that `distill` takes when none is named, beside glnn and the paper's ffg2m, all as they are: nothing is
# tuned. The student's width and epochs keep a run short.
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.5, high=1.0, even=False), dict(type="ffg2m")]
student = dict(hidden=[64], epochs=200)
settings = ["tran"]

_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=100)
# no benefit shows here: see results/graph/mean_teacher-digits.json; benchmarks/shifted.py nodes has it at test time
# no teacher but the student's own average: symmetric cross-entropy, the plain one, and no average
methods = [
    dict(type="mean_teacher"),
    dict(type="mean_teacher", loss=dict(type="sce", alpha=0.0)),
    dict(type="mean_teacher", consistency=0.0),
]

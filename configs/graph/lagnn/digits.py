_base_ = "../../_base_/graph.py"
data = "digits"
# The student reads a generated neighbour, and so does the second teacher: beside it a GCN of the same width.
settings = ["ind"]
teacher = dict(type="gcn", dropout=0.5, epochs=60)
references = [dict(type="lagnn", epochs=60, samples=2, generator=dict(width=64, passes=20))]
student = dict(hidden=[64], epochs=60)
methods = [dict(type="glnn"), dict(type="lagnn", generator=dict(width=64, passes=20))]

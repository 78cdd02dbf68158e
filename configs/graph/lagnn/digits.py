_base_ = "../../_base_/graph.py"
data = "digits"
# The student reads a generated neighbour, and so does the second teacher: beside it a GCN of the same width.
teacher = dict(type="gcn", dropout=0.5)
references = [dict(type="lagnn", generator=dict(width=64, batch_size=256))]
student = dict(hidden=[64], epochs=100)
methods = [dict(type="glnn"), dict(type="lagnn", generator=dict(width=64, batch_size=256))]

_base_ = "../../_base_/graph.py"
data = "cora"
# The student reads a generated neighbour, and so does the second teacher: beside it a GCN of the same width. Latent
# width, hidden units, concat, sharp and consistency are the authors'; samples of 2 for 4, as each costs a pass of the
# decoder. Nothing is tuned.
teacher = dict(type="gcn", dropout=0.8)
references = [dict(type="lagnn", dropout=0.8, samples=2)]
student = dict(hidden=[128], epochs=100, patience=30)
methods = [dict(type="glnn"), dict(type="lagnn")]

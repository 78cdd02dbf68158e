_base_ = "../../_base_/graph.py"
data = "cora"
# The student reads a generated neighbour, and so does the second teacher: beside it a GCN of the same width. Latent
# width, hidden units, concat, samples, sharp and consistency are the authors', but for samples of 2 in place of 4, which
# cost a decoder's pass each. Batches of 256 for 64 keep the generator's training short; nothing is tuned.
teacher = dict(type="gcn", dropout=0.8)
references = [dict(type="lagnn", dropout=0.8, samples=2, epochs=200, generator=dict(batch_size=256))]
student = dict(hidden=[128], epochs=100, patience=30)
methods = [dict(type="glnn"), dict(type="lagnn", generator=dict(batch_size=256))]

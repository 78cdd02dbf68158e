# Temperatures and weights of the losses are the paper's. Layers, runs and epochs are fewer, learning rate and batches
# larger than there, for a run of minutes on one core.
data = "lastfm"
k = 20
teacher = dict(type="lightgcn", layers=4, width=64, lr=0.01, epochs=60, patience=8, batch_size=8192)
student = dict(layers=2, edges=0.2, entries=0.1, runs=5, lr=0.01, epochs=15, patience=8, batch_size=8192)
methods = [dict(type="lightgnn", layers=3, partners=5, triples=5000, draw=512, epochs=30)]

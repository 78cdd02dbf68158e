# Seconds. Three tastes, and a third of all pairs by mistake; a fifth of the edges and a tenth of the entries are left.
data = dict(type="blocks", users=90, items=60, each=6, tested=6, noise=0.5, least=5, val_share=0.2)
k = 10
teacher = dict(type="lightgcn", layers=3, width=16, lr=0.02, epochs=40, batch_size=None)
student = dict(layers=2, edges=0.2, entries=0.1, runs=5, lr=0.02, epochs=15, batch_size=None)
methods = [
    dict(type="lightgnn", layers=2, partners=5, triples=500, uniform=0.1),
    dict(type="pruned_supervised", by="chance"),
]

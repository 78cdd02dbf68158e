# Seconds. Three tastes, and a third of all pairs by mistake; a fifth of the edges and a tenth of the entries are left.
data = dict(type="blocks", each=6, tested=6, noise=0.5, least=5, val_share=0.2)
k = 10
teacher = dict(type="lightgcn", layers=4, width=32, lr=0.01, epochs=60, batch_size=None)
student = dict(layers=2, edges=0.2, entries=0.1, runs=6, lr=0.01, epochs=20, batch_size=None)
methods = [dict(type="lightgnn", layers=3, partners=5, triples=1000, uniform=0.1), dict(type="pruned", by="chance")]

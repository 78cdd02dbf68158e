_base_ = "../../_base_/graph.py"
data = "arxiv"  # with the benchmark's split by time; a seed draws the unseen nodes and the parameters
# The paper has no setting for this graph: lam is that of glnn. Teacher and student are those of glnn, see there.
teacher = dict(layers=3, hidden=256, dropout=0.2, norm="batch", weight_decay=0.0)
student = dict(hidden=[256, 256], dropout=0.2, norm="batch", weight_decay=0.0, batch_size=512, epochs=200)
methods = [dict(type="glnn"), dict(type="ffg2m", lam=0.0, tau=1.3, pairs=512, high=1.0, even=False)]

_base_ = "../../_base_/graph.py"
data = "arxiv"  # with the benchmark's split by time; a seed draws the unseen nodes and the parameters
# Teacher and student are the paper's, but for the teacher's neighbours, of which it takes all in each step: some 4 GB.
teacher = dict(layers=3, hidden=256, dropout=0.2, norm="batch", weight_decay=0.0)
student = dict(hidden=[256, 256], dropout=0.2, norm="batch", weight_decay=0.0, batch_size=512, epochs=200)
methods = [dict(type="glnn")]

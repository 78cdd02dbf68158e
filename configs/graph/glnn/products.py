_base_ = "../../_base_/graph.py"
data = "products"  # with the benchmark's split by sales rank; a seed draws the unseen nodes and the parameters
# Teacher and student are the paper's, but for the teacher's neighbours, of which it takes all in each step: several
# hundred GB. With one trained in parts elsewhere: dict(_delete_=True, cache="FOLDER/{setting}-{seed}").
teacher = dict(layers=3, hidden=256, dropout=0.5, norm="batch", lr=0.003, weight_decay=0.0)
student = dict(
    hidden=[256, 256], dropout=0.5, norm="batch", lr=0.003, weight_decay=0.0, batch_size=4096, epochs=200, patience=30
)
methods = [dict(type="glnn")]

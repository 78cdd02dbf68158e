_base_ = "../../_base_/graph.py"
data = "cane_cora"
# As lingugkd/cane_cora.py, for a student that only averages: it makes more of few labels than a convolution does. The
# vectors come from the same call of tools/embed_text.py. Width and weight decay were chosen on validation, on five
# seeds of 20 nodes a class, and so was the learning rate of logistic regression.
# The log in results/ was made by lingugkd(both=True, dropout=0.0), the form of ours that was the default then.
settings = ["tran"]
teacher = dict(
    type="hopwise",
    conv="sgc",
    hidden=256,
    weight_decay=1e-3,
    source="work_dirs/text/cane_cora",
    method=dict(type="lingugkd"),
)
references = [
    dict(type="sgc", hops=2, lr=0.3, epochs=300),
    dict(type="sgc", hops=2, lr=0.3, epochs=300, source="work_dirs/text/cane_cora", inputs=0),
]
methods = [dict(type="glnn")]

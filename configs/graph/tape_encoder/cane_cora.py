_base_ = "../tape/cane_cora.py"
# Without a causal model: the texts, and the ranks that the encoder gives to the labels, see ../annotator/cane_cora.py.
teacher = [
    dict(type="hopwise", conv="gcn", dropout=0.7, source="work_dirs/text/cane_cora", inputs=0),
    dict(type="hopwise", conv="gcn", dropout=0.7, source="work_dirs/text/cane_cora_labels", inputs=dict(top=3)),
]
references = [*_base_.references, dict(teacher[1], epochs=200)]

# Batches: all edges and as many non-edges in a step would take gigabytes.
_base_ = "../_base_/unlearning.py"
data = "physics"
teacher = dict(epochs=20, batch_size=32768)
methods = [
    dict(type="d2dgn", epochs=20, batch_size=32768),
    dict(type="gnndelete", epochs=200, lr=0.005),
    dict(type="gradient_ascent"),
]

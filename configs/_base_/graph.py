# What the configs of the graph side share. Split by seed, selection by validation accuracy.
settings = ["tran", "ind"]
teacher = dict(type="sage", epochs=200)
student = dict(hidden=[256], dropout=0.5, lr=0.01, weight_decay=5e-4, epochs=500, patience=50)

# What the configs of link prediction share. Edges are split by seed, selection is by validation Hits@20.
settings = ["tran", "prod"]
teacher = dict(type="sage", hidden=128, dropout=0.5, lr=0.01, epochs=200, patience=50)
student = dict(hidden=[128, 128], dropout=0.5, lr=0.005, epochs=100, patience=30, batch_size=1024)

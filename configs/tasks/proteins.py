# Whole graphs: enzymes or not; the teacher pools the layers of GIN, the student reads descriptors.
_base_ = "../_base_/graph.py"
data = "proteins"
teacher = dict(type="gin", hidden=32, layers=4, dropout=0.3, epochs=120)
student = dict(hidden=[128], dropout=0.3, lr=0.01, weight_decay=5e-4, epochs=300, patience=50)
methods = [dict(type="glnn")]

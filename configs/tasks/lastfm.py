# Several labels: which of the 20 most popular artists a user listens to, from the others; the teacher sees friends.
_base_ = "../_base_/graph.py"
data = "lastfm"
teacher = dict(type="sage", hidden=128, layers=2, dropout=0.5, epochs=200)
student = dict(hidden=[128], dropout=0.6, lr=0.01, weight_decay=5e-4, epochs=300, patience=50)
methods = [dict(type="glnn")]
scoring = ["average_precision", "f1_micro"]

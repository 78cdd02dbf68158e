# Several labels: which of the 20 most frequent words stand in a paper, from the others; the teacher sees citations.
_base_ = "../_base_/graph.py"
data = dict(type="cora_words", split=dict(type="shares", train=0.1, val=0.1))
teacher = dict(type="sage", hidden=64, layers=2, dropout=0.7, epochs=150)
student = dict(hidden=[64], dropout=0.6, lr=0.01, weight_decay=5e-4, epochs=200, patience=50)
methods = [dict(type="glnn")]
scoring = ["average_precision", "f1_micro"]

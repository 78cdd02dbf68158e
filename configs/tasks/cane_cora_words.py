# Several kinds of nodes: classes of papers; the teacher sees citations and words, the student the words of a paper.
_base_ = "../_base_/graph.py"
data = "cane_cora_words"
teacher = dict(type="sage", hidden=64, layers=2, dropout=0.5, epochs=100)
student = dict(hidden=[128], dropout=0.5, lr=0.01, weight_decay=5e-4, epochs=300, patience=50)
settings = ["tran"]
methods = [dict(type="glnn")]

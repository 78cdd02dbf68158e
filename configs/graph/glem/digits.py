_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# There is no text here: the teacher's hidden layer stands for what a language model makes of a node.
methods = [dict(type="glnn"), dict(type="glem")]

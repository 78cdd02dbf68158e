_base_ = "../../_base_/graph.py"
data = "digits"
# There is no text here: the teacher's hidden layer stands for what a language model makes of a neighbourhood.
methods = [dict(type="glnn"), dict(type="lingugkd", lam=0.5)]

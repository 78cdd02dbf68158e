# Casts of films of two genres, whose nodes have degrees alone: few trees are in many graphs, so thresholds are low.
_base_ = "mutag.py"
data = dict(type="imdb-binary")
methods = [dict(type="mirage", hops=1)]
thresholds = [4, 8]

_base_ = "../../_base_/graph.py"
data = "digits"
methods = [dict(type="glnn"), dict(type="sale_mlp", structure=0.5)]

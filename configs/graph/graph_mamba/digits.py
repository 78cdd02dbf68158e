_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(type="graph_mamba", epochs=100)
methods = [dict(type="glnn")]

_base_ = "../../_base_/graph.py"
data = "cora"
teacher = dict(type="graph_mamba")
methods = [dict(type="glnn")]

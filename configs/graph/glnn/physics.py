_base_ = "../../_base_/graph.py"
data = "physics"
methods = [dict(type="glnn")]

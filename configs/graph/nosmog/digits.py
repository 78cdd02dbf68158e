_base_ = "../../_base_/graph.py"
data = "digits"
methods = [dict(type="glnn"), dict(type="nosmog", draw=512, inputs=dict(width=32, walks=2))]

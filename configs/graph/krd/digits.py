_base_ = "../../_base_/graph.py"
data = "digits"
# Sampling from an early epoch on: training is short here.
methods = [dict(type="glnn"), dict(type="krd", start=10)]

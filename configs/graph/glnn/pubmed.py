_base_ = "../../_base_/graph.py"
data = "pubmed"
# The student is the paper's.
student = dict(hidden=[128], dropout=0.4, lr=0.005, weight_decay=0.0)
methods = [dict(type="glnn")]

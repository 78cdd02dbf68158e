# Enzymes or not; the nodes are of three kinds.
_base_ = "mutag.py"
data = dict(type="proteins")
thresholds = [0.05, 0.1]

# Compounds that are active against a kind of cancer or not.
_base_ = "mutag.py"
data = dict(type="nci1")
thresholds = [0.1, 0.3]

# Seconds. The scores of a teacher of links, reconstructed from nodes embedded alone.
_base_ = "../llp/digits.py"
methods = [dict(type="dse")]

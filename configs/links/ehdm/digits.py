# Seconds. Four heuristics in place of a graph network, with a gate and without; llp is told by the graph network.
_base_ = "../llp/digits.py"
methods = [dict(type="llp"), dict(type="ehdm"), dict(type="ehdm", gate=False)]

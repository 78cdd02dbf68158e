# The same where all clients have the same classes, and few labels of each.
_base_ = "digits.py"
shares = 100.0
methods = ["local", "fedavg", "average", "knfu", "fedd2s"]

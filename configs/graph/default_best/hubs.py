_base_ = "../default/hubs.py"
methods = [dict(type="glnn"), dict(type="best")]  # its own defaults

_base_ = "../default/hubs_strong.py"
methods = [dict(type="glnn"), dict(type="best")]  # its own defaults

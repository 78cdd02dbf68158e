_base_ = "../default/hubs.py"
methods = [dict(type="glnn"), dict(type="refined_teacher")]  # its own defaults

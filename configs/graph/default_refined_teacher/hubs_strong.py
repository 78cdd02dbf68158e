_base_ = "../default/hubs_strong.py"
methods = [dict(type="glnn"), dict(type="refined_teacher")]  # its own defaults

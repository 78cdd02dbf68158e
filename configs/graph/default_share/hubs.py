_base_ = "../default/hubs.py"
methods = [dict(type="glnn"), dict(type="ffg2m")]

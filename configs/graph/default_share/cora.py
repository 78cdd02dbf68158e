_base_ = "../default/cora.py"
methods = [dict(type="glnn"), dict(type="ffg2m")]  # its own defaults, which tell a node half of its own target

_base_ = "../../_base_/graph.py"
data = "digits"
student = dict(hidden=[128])  # the teacher's width, which the recipe needs
methods = [dict(type="glnn"), dict(type="tined")]

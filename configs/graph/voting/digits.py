_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
methods = [dict(type="glnn"), dict(type="voting")]

_base_ = "../../_base_/graph.py"
data = "digits"
teacher = dict(epochs=20)  # not much better than the student
student = dict(hidden=[64], epochs=200)
methods = [dict(type="glnn"), dict(type="partition")]

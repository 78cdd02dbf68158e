_base_ = "../../_base_/graph.py"
data = "graphkd.data.digits:parity"  # two classes of five kinds each, of which the labels do not tell
settings = ["tran"]
teacher = dict(epochs=100)
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="glnn"),
    dict(type="lelp", subclasses=5),
    dict(type="lelp", subclasses=5, subclass_tau=0.3),
]

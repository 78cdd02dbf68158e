# Two teachers of two tasks in turn, which share the classes 3 to 6.
_base_ = "../../_base_/graph.py"
data = "digits"
teacher = [
    dict(type="sage", epochs=60, known=[0, 1, 2, 3, 4, 5, 6]),
    dict(type="sage", epochs=60, known=[3, 4, 5, 6, 7, 8, 9]),
]
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="terms", distills=[dict(loss="average")]),
    dict(type="terms", distills=[dict(loss="mulki")]),
]

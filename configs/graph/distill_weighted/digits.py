# Three sources with tasks of their own: odd or even, holes in the digit, and the digits up to six.
_base_ = "../../_base_/graph.py"
data = "digits"
teacher = [
    dict(type="sage", epochs=60, task=[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]),
    dict(type="sage", epochs=60, task=[1, 0, 0, 0, 1, 0, 1, 0, 2, 1]),
    dict(type="sage", epochs=60, task=[0, 1, 2, 3, 4, 5, 6, -1, -1, -1]),
]
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="distill_weighted", power=0.0),  # all alike
    dict(type="distill_weighted", power=4.0),
    dict(type="distill_weighted", nearest=True),
]

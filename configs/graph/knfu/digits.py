# Four clients with a shard of the labels each; the last two know half of the classes. The first is the local one.
_base_ = "../../_base_/graph.py"
data = "digits"
teacher = [
    dict(type="sage", epochs=100, shard=[0, 4]),
    dict(type="sage", epochs=100, shard=[1, 4]),
    dict(type="sage", epochs=100, shard=[2, 4], known=[0, 1, 2, 3, 4]),
    dict(type="sage", epochs=100, shard=[3, 4], known=[5, 6, 7, 8, 9]),
]
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="terms", distills=[dict(loss=dict(type="average", weights=[1, 0, 0, 0]))]),  # the local one alone
    dict(type="terms", distills=[dict(loss="average")]),
    dict(type="terms", distills=[dict(loss="knfu")]),
]

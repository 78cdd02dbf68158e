_base_ = "../../_base_/graph.py"
data = "digits"
teacher = [dict(type="sage", epochs=100), dict(type="gcn", epochs=100)]
student = dict(hidden=[64], epochs=200)
methods = [
    dict(type="glnn"),  # the same: any recipe for one teacher hears the mean of several
    dict(type="terms", distills=[dict(loss="average")]),
    dict(type="terms", distills=[dict(loss=dict(type="average", loss="dist", weights=[0.7, 0.3]))]),
]

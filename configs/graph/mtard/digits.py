_base_ = "../../_base_/graph.py"
data = "digits"
# the second stands in for a robust teacher: dropout on every hidden unit. It is not robust: students of one that is
# asked about attacked features withstand less than those of its clean answers, see benchmarks/shifted.py attacked
teacher = [dict(type="sage", epochs=100), dict(type="sage", dropout=0.5, epochs=100)]
student = dict(hidden=[64], epochs=100)
methods = [
    dict(type="terms", distills=[dict(loss=dict(type="mtard", teachers=2))]),  # no attack: balance alone
    *(dict(type="mtard", steps=3, radius=0.1, step=0.05, ask=ask) for ask in (True, False)),
]

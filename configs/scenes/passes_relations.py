# Some minutes. The same world's relations, of which each has another in the opposite direction.
data = dict(type="passes", videos=120)
k = 5
schedule = dict(lr=0.005, epochs=40, batch_size=12)
methods = [
    dict(type="login"),
    dict(type="login", ordered=False),
    dict(type="login", hops=0),
    dict(type="login", attract=0.0, apart=0.0),
]

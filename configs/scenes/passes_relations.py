# Some minutes. The same world's relations, of which each has another in the opposite direction.
data = dict(type="passes", videos=120, noise=0.1)
k = 10
schedule = dict(lr=0.01, epochs=30, batch_size=8)
methods = [
    dict(type="login"),
    dict(type="login", ordered=False),
    dict(type="login", hops=0),
    dict(type="login", attract=0.0, apart=0.0),
]

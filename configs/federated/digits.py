# Five clients with unequal parts of the digits graph: each alone, one model for all, and three ways to exchange.
data = "digits"
clients = 5
rounds = 8
shares = 0.3
transfer = 0.3
student = dict(hidden=[64, 64], dropout=0.0, epochs=30, method=dict(type="glnn", lam=0.5))
methods = ["local", "fedavg", "average", "knfu", "fedd2s"]

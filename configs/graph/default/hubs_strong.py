_base_ = "cora.py"
# As hubs.py, with greater hubs, fewer citations and words that say less.
data = dict(
    _delete_=True, type="hubs", nodes=5000, classes=5, cites=2, exponent=1.8, homophily=0.7, signal=0.12, seed=1
)
settings = ["tran"]

_base_ = "cora.py"
# As hubs.py, with 16,000 nodes.
data = dict(_delete_=True, type="hubs", nodes=16000, homophily=0.6, signal=0.15, seed=2)
settings = ["tran"]

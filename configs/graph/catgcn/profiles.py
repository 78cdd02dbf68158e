_base_ = "../../_base_/graph.py"
data = dict(type="graphkd.data.fields:profiles", nodes=1500, classes=3, values=6, fields=3)
settings = ["tran"]
teacher = dict(type="catgcn", width=32, hops=2, lr=0.02, epochs=100)
references = [dict(type="sgc", epochs=100)]  # the same propagation, without interactions
methods = [dict(type="glnn")]

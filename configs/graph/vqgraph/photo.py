_base_ = "../../_base_/graph.py"
data = "photo"
# Nothing is tuned: codes, width and the weights of the tokenizer's losses are our own, tau is the authors'.
teacher = dict(type="vqsage", codes=512)
methods = [dict(type="vqgraph")]
student = dict(dropout=0.4, lr=0.005)
settings = ["tran"]

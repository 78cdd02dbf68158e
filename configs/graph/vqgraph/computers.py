_base_ = "../../_base_/graph.py"
data = "computers"
# The student is that of refined_teacher/computers.py. Nothing else is tuned: codes, width and the weights of
# the tokenizer's losses are our own, tau is the authors'.
teacher = dict(type="vqsage", codes=512)
methods = [dict(type="vqgraph")]
student = dict(dropout=0.1, lr=0.005, weight_decay=0.0, epochs=200)
settings = ["tran"]

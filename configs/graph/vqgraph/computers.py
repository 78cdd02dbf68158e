_base_ = "../../_base_/graph.py"
data = "computers"
# The options of the tokenizer are those chosen on Cora; tau is the authors'.
teacher = dict(type="vqsage", codes=512)
methods = [dict(type="glnn"), dict(type="vqgraph")]
student = dict(dropout=0.4, lr=0.005)

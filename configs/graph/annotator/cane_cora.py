_base_ = "../../_base_/graph.py"
data = "cane_cora"
# A graph network that is told no label but those that a sentence encoder guesses by the words below, and an MLP that it
# teaches. Beside it: the same number of guesses drawn at random, and 20 true labels a class. First:
#   python tools/embed_text.py cane_cora --model FOLDER --budget 160 --dtype bfloat16 --labels "neural networks,\
#     reinforcement learning,Bayesian networks and Markov chain Monte Carlo,computational learning theory,\
#     genetic algorithms and genetic programming,case-based reasoning and design,\
#     inductive logic programming and rule learning" --out work_dirs/text/cane_cora_labels
# The network is that of ../lingugkd/cane_cora.py; the options of the method are its defaults, chosen by no figure.
settings = ["tran"]
teacher = dict(
    type="hopwise",
    conv="gcn",
    dropout=0.7,
    source="work_dirs/text/cane_cora_labels",
    method=dict(type="annotator"),
)
references = [dict(teacher, epochs=200, method=dict(type="annotator", select="random", drop=0.0))]
methods = [dict(type="glnn")]

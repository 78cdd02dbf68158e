_base_ = "../../_base_/graph.py"
data = "cane_cora"
# A graph network on words, taught in turns with an MLP that reads a sentence encoder's vectors of the texts alone, and
# an MLP on words that it teaches. Beside it: one turn only, the network on the vectors themselves, and each untaught.
# The network is that of ../lingugkd/cane_cora.py, whose cache is read; the options of the method are its defaults.
settings = ["tran"]
teacher = dict(type="hopwise", conv="gcn", dropout=0.7, source="work_dirs/text/cane_cora", method=dict(type="glem"))
references = [
    dict(teacher, epochs=200, method=dict(type="glem", rounds=1)),
    dict(teacher, epochs=200, inputs=0),
]
methods = [dict(type="glnn")]

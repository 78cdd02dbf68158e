_base_ = "../../_base_/graph.py"
data = "cora"
# lam (its 1 is the weight of the teacher), rate, form, start, and the learning rate, decay and dropout are the
# paper's. Its energy is 1, in a step of its own; here it is in one step with the KL. The student has the width of the
# teacher, which the recipe needs; the teacher is that of the other configs.
settings = ["tran"]
teacher = dict(dropout=0.8, weight_decay=0.01)
student = dict(hidden=[128], dropout=0.0, lr=0.005, weight_decay=0.005)
methods = [dict(type="glnn"), *[dict(type="tined", energy=energy) for energy in (1.0, 0.1, 0.01, 0.0)]]

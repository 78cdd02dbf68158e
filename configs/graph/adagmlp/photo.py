_base_ = "../../_base_/graph.py"
data = "photo"
# Members, tau, lam, beta and the learning rate are the paper's with this teacher, align and mask those on Cora.
methods = [dict(type="glnn"), dict(type="adagmlp", lam=0.2, members=2, tau=0.1, beta=0.5, align=0.9, mask=0.1)]
student = dict(dropout=0.4, lr=0.005)

_base_ = "../../_base_/graph.py"
data = "photo"
# Members, tau, lam, beta, mask and the learning rate are those of the authors' command for this teacher.
methods = [dict(type="glnn"), dict(type="adagmlp", lam=0.2, members=2, tau=0.1, beta=0.5, mask=0.0)]
student = dict(dropout=0.4, lr=0.005)

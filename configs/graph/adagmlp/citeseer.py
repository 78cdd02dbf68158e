_base_ = "../../_base_/graph.py"
data = "citeseer"
# Members, tau, lam, beta, align and mask are those of the authors' command for this teacher. Teacher and student are
# those of the other recipes on this graph.
teacher = dict(dropout=0.8, weight_decay=0.01)
methods = [dict(type="glnn"), dict(type="adagmlp", lam=0.1, members=3, tau=0.3, beta=4.0, align=0.9, mask=0.1)]

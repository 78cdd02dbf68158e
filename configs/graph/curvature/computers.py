_base_ = "../../_base_/graph.py"
data = "computers"
# caw was chosen on Cora's validation nodes. The first run on a graph takes about a minute for its curvatures.
student = dict(dropout=0.4, lr=0.005)
methods = [dict(type="glnn"), dict(type="curvature", caw=0.1)]

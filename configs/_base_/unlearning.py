# What the configs of unlearning share: a GCN of two layers, 128 and 64 wide, whose rows score links by their product.
task = "links"
teacher = dict(type="gcn", hidden=128, width=64, dropout=0.0, lr=0.01, weight_decay=0.0, epochs=200, patience=50)
forget = dict(edges=0.025)
methods = [dict(type="d2dgn"), dict(type="gnndelete"), dict(type="gradient_ascent")]

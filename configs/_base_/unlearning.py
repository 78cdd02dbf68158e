# What the configs of unlearning share: a GCN of two layers, 128 and 64 wide, whose rows score links by their product.
# Of gnndelete fewer and larger steps than published, 1500 or more at 1e-3, keep a run short.
task = "links"
teacher = dict(type="gcn", hidden=128, width=64, dropout=0.0, lr=0.01, weight_decay=0.0, epochs=100, patience=50)
forget = dict(edges=0.025)
methods = [dict(type="d2dgn"), dict(type="gnndelete", epochs=200, lr=0.005), dict(type="gradient_ascent")]

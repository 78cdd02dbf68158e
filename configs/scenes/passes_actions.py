# A minute or two. A drawn world whose action is a relation over time; a tenth of the videos to learn from has a label.
data = dict(type="passes", videos=400, labelled=0.1, cue=0.8)
k = 20
schedule = dict(lr=0.01, epochs=30, batch_size=60)
methods = [
    dict(type="glidn", hidden=16, heads=2, dropout=0.0),
    dict(type="glidn", hidden=16, heads=2, dropout=0.0, features=0.0),
]

_base_ = "../../_base_/graph.py"
data = "digits"
# The labels are 200, and pixels are no words: fewer of them are hidden, fewer hops blur less.
methods = [dict(type="glnn"), dict(type="refined_teacher", hops=2, mask=0.3, dropout=0.5, decay=5e-4, epochs=60)]
student = dict(hidden=[64], epochs=200)

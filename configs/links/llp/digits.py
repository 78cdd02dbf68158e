# Seconds. Digits are joined by the very features that a student sees: the control needs no teacher here, it is ahead.
_base_ = "../../_base_/links.py"
data = "digits"
settings = ["tran"]
teacher = dict(hidden=32, dropout=0.0, lr=0.02, epochs=60)
student = dict(hidden=[32, 32], dropout=0.0, lr=0.01, epochs=25, batch_size=2048)
methods = [dict(type="llp")]

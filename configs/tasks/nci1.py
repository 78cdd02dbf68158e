# Whole graphs: compounds that are active against a kind of cancer or not; a step of the teacher takes all of them.
_base_ = "proteins.py"
data = "nci1"
settings = ["tran"]
teacher = dict(epochs=60)

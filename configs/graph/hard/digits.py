_base_ = "../../_base_/graph.py"
data = "digits"
settings = ["tran"]
# two bounds of the mask; 0 is the same without augmentation
student = dict(epochs=200)
methods = [dict(type="hard", bound=bound) for bound in (0.5, 0.2, 0.0)]

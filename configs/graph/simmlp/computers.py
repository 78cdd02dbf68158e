_base_ = "../../_base_/graph.py"
data = "computers"
# Masks, hops and the student's norm are the authors'; the rest as on Cora, not measured here.
student = dict(norm="batch")
methods = [dict(type="glnn"), dict(type="simmlp", epochs=100, lr=0.01, rebuild=1.0, feature_mask=0.25)]

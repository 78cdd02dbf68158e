# Digits 5 to 9 are to be found without a label: clusters by themselves, then kept to what the teacher, which knows the
# digits 0 to 4, sees of these in their nodes. The control is told all labels of all digits: what there was to find.
_base_ = "../../_base_/digits.py"
teacher = dict(known=[0, 1, 2, 3, 4])
student = dict(dropout=0.0, epochs=80)
methods = [
    dict(type="discovery", known=[0, 1, 2, 3, 4], relation=0.0),
    dict(type="discovery", known=[0, 1, 2, 3, 4]),
]
scoring = [
    dict(type="matched_accuracy", known=[0, 1, 2, 3, 4]),
    dict(type="matched_accuracy", known=[0, 1, 2, 3, 4], of="new"),
    dict(type="matched_accuracy", known=[0, 1, 2, 3, 4], of="known"),
]

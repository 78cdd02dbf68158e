# Digits 5 to 9 are to be found without a label: clusters by themselves, then kept to what the teacher, which knows the
# digits 0 to 4, sees of these in their nodes. The control is told all labels of all digits: what there was to find.
_base_ = "../../_base_/digits.py"
_known = [0, 1, 2, 3, 4]
teacher = dict(known=_known)
student = dict(dropout=0.0, epochs=80)
methods = [
    dict(type="discovery", known=_known, relation=0.0),
    dict(type="discovery", known=_known),
]
scoring = [dict(type="matched_accuracy", known=_known)]
scoring += [dict(type="matched_accuracy", known=_known, of=each) for each in ("new", "known")]

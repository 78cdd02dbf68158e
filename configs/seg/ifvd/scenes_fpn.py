# IFVD on the feature before the logits, in the table of convolutional students.
_base_ = "../../_base_/tables/scenes_fpn.py"
model = dict(method="ifvd")

# DIST on the logits, in the table of convolutional students.
_base_ = "../../_base_/tables/scenes_fpn.py"
model = dict(method="dist")

# CWD on the logits, weight and temperature of its authors, in the table of convolutional students.
_base_ = "../../_base_/tables/scenes_fpn.py"
model = dict(method="cwd")

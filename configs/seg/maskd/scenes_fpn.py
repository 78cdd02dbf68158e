# MasKD on the levels of the neck, in the table of convolutional students.
_base_ = "../../_base_/tables/scenes_fpn.py"
model = dict(method="maskd")

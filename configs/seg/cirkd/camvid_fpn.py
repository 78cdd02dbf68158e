# CIRKD with its memory, in the CamVid table of convolutional students.
_base_ = "../../_base_/tables/camvid_fpn.py"
model = dict(method="cirkd")

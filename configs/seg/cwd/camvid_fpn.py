# CWD on the logits, weight and temperature of its authors, in the CamVid table of convolutional students.
_base_ = "../../_base_/tables/camvid_fpn.py"
model = dict(method="cwd")

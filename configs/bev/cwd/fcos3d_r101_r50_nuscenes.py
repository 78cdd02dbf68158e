# CWD on the levels of the neck, from FCOS3D with a ResNet-101 to the same with a ResNet-50.
_base_ = "../../_base_/pairs/fcos3d_r101_r50_nuscenes.py"
model = dict(method="cwd")

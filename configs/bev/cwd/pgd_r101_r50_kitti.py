# CWD on the levels of the neck, from PGD with a ResNet-101 to the same with a ResNet-50.
_base_ = "../../_base_/pairs/pgd_r101_r50_kitti.py"
model = dict(method="cwd")

# PGD with a ResNet-50 for a student, otherwise mmdet3d's own with its ResNet-101.
_base_ = "mmdet3d::pgd/pgd_r101-caffe_fpn_head-gn_4xb3-4x_kitti-mono3d.py"
model = dict(backbone=dict(depth=50, init_cfg=dict(checkpoint="open-mmlab://detectron2/resnet50_caffe")))

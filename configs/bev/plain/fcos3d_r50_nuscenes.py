# FCOS3D with a ResNet-50 for a student, otherwise mmdet3d's own with its ResNet-101.
_base_ = "mmdet3d::fcos3d/fcos3d_r101-caffe-dcn_fpn_head-gn_8xb2-1x_nus-mono3d.py"
model = dict(backbone=dict(depth=50, init_cfg=dict(checkpoint="open-mmlab://detectron2/resnet50_caffe")))

# The teacher of a two-stage detector: a ResNet-18 of half width.
_base_ = "faster_rcnn_r18_w16_digits.py"
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=96),
    rpn_head=dict(in_channels=96, feat_channels=96),
    roi_head=dict(bbox_roi_extractor=dict(out_channels=96), bbox_head=dict(in_channels=96, fc_out_channels=256)),
)

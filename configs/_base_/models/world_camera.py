# The detector of a camera: three stages of a narrow ResNet-18, lifted to 31 depths of a metre.
_base_ = "world_bev.py"
model = dict(
    data_preprocessor=dict(
        type="Det3DDataPreprocessor", mean=[127.5, 127.5, 127.5], std=[64.0, 64.0, 64.0], bgr_to_rgb=True
    ),
    img_backbone=dict(
        type="mmdet.ResNet",
        depth=18,
        base_channels=16,
        stem_channels=16,
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(0, 1, 2),
        norm_cfg=dict(type="BN"),
        norm_eval=False,
    ),
    img_neck=dict(type="mmdet.FPN", in_channels=[16, 32, 64], out_channels=32, num_outs=3, norm_cfg=dict(type="BN")),
    view_transform=dict(
        type="densekd.LiftSplat",
        in_channels=32,
        out_channels=32,
        point_cloud_range=_base_.point_cloud_range,
        size=(64, 64),
        depth=(1.5, 32.5, 1.0),
    ),
)

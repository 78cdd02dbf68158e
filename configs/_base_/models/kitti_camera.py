# The camera detector of KITTI: lift, splat, on PointPillars' map of .32 m with PointPillars' head.
_base_ = ["mmdet3d::_base_/models/pointpillars_hv_secfpn_kitti.py", "lift_splat_r18.py"]
model = dict(
    _delete_=True,
    type="densekd.BEVDetector",
    data_preprocessor=_base_.images,
    **_base_.camera,
    view_transform=dict(
        type="densekd.LiftSplat",
        in_channels=64,
        out_channels=64,
        point_cloud_range=[0, -39.68, -3, 69.12, 39.68, 1],
        size=(248, 216),
        depth=(2.0, 70.0, 1.0),
    ),
    pts_backbone=dict(type="SECOND", in_channels=64, layer_nums=[3, 5], layer_strides=[1, 2], out_channels=[64, 128]),
    pts_neck=dict(type="SECONDFPN", in_channels=[64, 128], upsample_strides=[1, 2], out_channels=[192, 192]),
    pts_bbox_head=_base_.model.bbox_head,
    train_cfg=dict(pts=_base_.model.train_cfg),
    test_cfg=dict(pts=_base_.model.test_cfg),
)

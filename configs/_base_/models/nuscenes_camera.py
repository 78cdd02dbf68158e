# The camera detector of nuScenes: six cameras, lift, splat, then CenterPoint's parts on a map of .4 m.
_base_ = ["mmdet3d::_base_/models/centerpoint_pillar02_second_secfpn_nus.py", "lift_splat_r18.py"]
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
model = dict(
    type="densekd.BEVDetector",
    data_preprocessor=dict(_delete_=True, **_base_.images),
    **_base_.camera,
    pts_voxel_encoder=None,
    pts_middle_encoder=None,
    view_transform=dict(
        type="densekd.LiftSplat",
        in_channels=64,
        out_channels=64,
        point_cloud_range=point_cloud_range,
        size=(256, 256),
        depth=(2.0, 58.0, 1.0),
    ),
    pts_backbone=dict(layer_strides=[1, 2, 2]),
    pts_bbox_head=dict(bbox_coder=dict(pc_range=point_cloud_range[:2])),
    train_cfg=dict(pts=dict(point_cloud_range=point_cloud_range)),
)

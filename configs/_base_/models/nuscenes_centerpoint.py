# mmdet3d's CenterPoint with pillars of .2 m on the range of these configs; its released weights load into it.
_base_ = "mmdet3d::_base_/models/centerpoint_pillar02_second_secfpn_nus.py"
point_cloud_range = [-51.2, -51.2, -5.0, 51.2, 51.2, 3.0]
model = dict(
    data_preprocessor=dict(voxel_layer=dict(point_cloud_range=point_cloud_range)),
    pts_voxel_encoder=dict(point_cloud_range=point_cloud_range),
    pts_bbox_head=dict(bbox_coder=dict(pc_range=point_cloud_range[:2])),
    train_cfg=dict(pts=dict(point_cloud_range=point_cloud_range)),
)

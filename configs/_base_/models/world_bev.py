# What follows the map of the ground, the same for all sensors: 64 x 64 cells of half a metre, boxes on cells of one.
default_scope = "mmdet3d"
point_cloud_range = [0.0, -16.0, -3.0, 32.0, 16.0, 2.0]
cell = [0.5, 0.5, 5]
norm_cfg = dict(type="BN", eps=1e-3, momentum=0.01)
# what a LiDAR adds: pillars, and their map
pillars = dict(
    voxel=True,
    voxel_layer=dict(max_num_points=16, point_cloud_range=point_cloud_range, voxel_size=cell, max_voxels=(4096, 4096)),
)
lidar = dict(
    pts_voxel_encoder=dict(
        type="PillarFeatureNet",
        in_channels=4,
        feat_channels=[32],
        with_distance=False,
        voxel_size=cell,
        point_cloud_range=point_cloud_range,
        norm_cfg=dict(type="BN1d", eps=1e-3, momentum=0.01),
        legacy=False,
    ),
    pts_middle_encoder=dict(type="PointPillarsScatter", in_channels=32, output_shape=(64, 64)),
)
model = dict(
    type="densekd.BEVDetector",
    pts_backbone=dict(
        type="SECOND",
        in_channels=32,
        out_channels=[32, 64],
        layer_nums=[1, 1],
        layer_strides=[2, 2],
        norm_cfg=norm_cfg,
        conv_cfg=dict(type="Conv2d", bias=False),
    ),
    pts_neck=dict(
        type="SECONDFPN",
        in_channels=[32, 64],
        out_channels=[32, 32],
        upsample_strides=[1, 2],
        norm_cfg=norm_cfg,
        upsample_cfg=dict(type="deconv", bias=False),
    ),
    pts_bbox_head=dict(
        type="CenterHead",
        in_channels=64,
        tasks=[dict(num_class=3, class_names=["car", "truck", "bike"])],
        common_heads=dict(reg=(2, 2), height=(1, 2), dim=(3, 2), rot=(2, 2), vel=(2, 2)),
        share_conv_channel=32,
        bbox_coder=dict(
            type="CenterPointBBoxCoder",
            pc_range=[0.0, -16.0],
            post_center_range=[-4.0, -20.0, -6.0, 36.0, 20.0, 6.0],
            max_num=50,
            score_threshold=0.05,
            out_size_factor=2,
            voxel_size=cell[:2],
            code_size=9,
        ),
        separate_head=dict(type="SeparateHead", init_bias=-2.19, final_kernel=3),
        loss_cls=dict(type="mmdet.GaussianFocalLoss", reduction="mean"),
        loss_bbox=dict(type="mmdet.L1Loss", reduction="mean", loss_weight=1.0),
        norm_bbox=True,
    ),
    train_cfg=dict(
        pts=dict(
            grid_size=[64, 64, 1],
            point_cloud_range=point_cloud_range,
            voxel_size=cell,
            out_size_factor=2,
            dense_reg=1,
            gaussian_overlap=0.1,
            max_objs=20,
            min_radius=2,
            code_weights=[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2],
        )
    ),
    test_cfg=dict(
        pts=dict(
            post_center_limit_range=[-4.0, -20.0, -6.0, 36.0, 20.0, 6.0],
            max_per_img=50,
            max_pool_nms=False,
            score_threshold=0.05,
            pc_range=[0.0, -16.0],
            out_size_factor=2,
            voxel_size=cell[:2],
            nms_type="rotate",
            pre_max_size=100,
            post_max_size=50,
            nms_thr=0.2,
        )
    ),
)

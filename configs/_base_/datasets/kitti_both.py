# KITTI with LiDAR and the left colour camera, at half its size; no augmentation: both sensors see the same frame.
custom_imports = dict(imports=["densekd.bev.registered"])
data_root = "{{$KD_DATA_ROOT:data}}/kitti/"
ranged = dict(point_cloud_range=[0, -39.68, -3, 69.12, 39.68, 1])
load = [
    dict(type="LoadPointsFromFile", coord_type="LIDAR", load_dim=4, use_dim=4),
    dict(type="LoadImageFromFileMono3D"),
    dict(type="densekd.ResizeCameras", size=(640, 192)),
    dict(type="PointsRangeFilter", **ranged),
]
frames = dict(
    type="KittiDataset",
    data_root=data_root,
    data_prefix=dict(pts="training/velodyne_reduced", img="training/image_2"),
    metainfo=dict(classes=["Pedestrian", "Cyclist", "Car"]),
    modality=dict(use_lidar=True, use_camera=True),
    box_type_3d="LiDAR",
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        **frames,
        ann_file="kitti_infos_train.pkl",
        pipeline=[
            dict(type="LoadAnnotations3D", with_bbox_3d=True, with_label_3d=True),
            *load,
            dict(type="ObjectRangeFilter", **ranged),
            dict(type="Pack3DDetInputs", keys=["points", "img", "gt_bboxes_3d", "gt_labels_3d"]),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        **frames,
        ann_file="kitti_infos_val.pkl",
        pipeline=[*load, dict(type="Pack3DDetInputs", keys=["points", "img"])],
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="densekd.BEVAP", thresholds=[0.7, 0.5])
test_evaluator = val_evaluator

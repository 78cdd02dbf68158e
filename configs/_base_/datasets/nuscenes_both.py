# nuScenes with one sweep of the LiDAR and six cameras, at a quarter of their size; no augmentation.
custom_imports = dict(imports=["densekd.bev.registered"])
data_root = "{{$KD_DATA_ROOT:data}}/nuscenes/"
ranged = dict(point_cloud_range=[-51.2, -51.2, -5.0, 51.2, 51.2, 3.0])
cameras = ["CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT"]
load = [
    dict(type="LoadPointsFromFile", coord_type="LIDAR", load_dim=5, use_dim=5),
    dict(type="LoadMultiViewImageFromFiles", num_views=6, num_ref_frames=-1),
    dict(type="densekd.ResizeCameras", size=(400, 224)),
    dict(type="PointsRangeFilter", **ranged),
]
frames = dict(
    type="NuScenesDataset",
    data_root=data_root,
    data_prefix=dict(pts="samples/LIDAR_TOP", **{camera: f"samples/{camera}" for camera in cameras}),
    metainfo=dict(
        classes=[
            *["car", "truck", "construction_vehicle", "bus", "trailer", "barrier"],
            *["motorcycle", "bicycle", "pedestrian", "traffic_cone"],
        ]
    ),
    modality=dict(use_lidar=True, use_camera=True),
    box_type_3d="LiDAR",
)
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        **frames,
        ann_file="nuscenes_infos_train.pkl",
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
        ann_file="nuscenes_infos_val.pkl",
        pipeline=[*load, dict(type="Pack3DDetInputs", keys=["points", "img"])],
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="NuScenesMetric", data_root=data_root, ann_file=data_root + "nuscenes_infos_val.pkl", metric="bbox"
)
test_evaluator = val_evaluator

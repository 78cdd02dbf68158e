# BCCD as if stained and photographed otherwise. Training images have two views, and no labels.
_base_ = "bccd.py"
reported_on = "test, 72 shifted images that no setting was chosen on"
shift = dict(type="densekd.Shifted", hue=60, gamma=1.4, contrast=0.7, blur=1.5, scale=0.8, vary=0.3)
view = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "homography_matrix"),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            shift,
            dict(type="Resize", scale=_base_.scale, keep_ratio=True),
            dict(type="RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),
            dict(
                type="MultiBranch",
                branch_field=["unsup_teacher", "unsup_student"],
                unsup_teacher=[view],
                unsup_student=[
                    dict(type="PhotoMetricDistortion"),
                    dict(type="RandomErasing", n_patches=(0, 3), ratio=(0, 0.15)),
                    view,
                ],
            ),
        ]
    )
)
load, *rest = _base_.test_pipeline
val_dataloader = dict(dataset=dict(pipeline=[load, shift, *rest]))
test_dataloader = dict(dataset=dict(pipeline=[load, shift, *rest]))

# BCCD as if stained and photographed otherwise, at four fifths of the scale. Training images have two views, no labels.
_base_ = "bccd.py"
reported_on = "test, 72 shifted images that no setting was chosen on"
shift = dict(type="densekd.Shifted", hue=60, gamma=1.4, contrast=0.7, blur=1.5, vary=0.3)
smaller = dict(type="Resize", scale=(208, 156), keep_ratio=True)
view = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "homography_matrix"),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            shift,
            smaller,
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
# what training reads where the labels are allowed: the upper bound of an adaptation
labelled_pipeline = [
    dict(type="LoadImageFromFile"),
    shift,
    dict(type="LoadAnnotations", with_bbox=True),
    smaller,
    dict(type="RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),
    dict(type="PackDetInputs"),
]
load, _, *rest = _base_.test_pipeline
test_pipeline = [load, shift, smaller, *rest]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

# Digit scenes in another domain: other colours, blurred, smaller. Training images have two views, and no labels.
_base_ = "digits_det.py"
reported_on = "test, 200 shifted scenes of digits that are in no training scene"
shift = dict(type="densekd.Shifted", hue=150, gamma=1.3, contrast=0.6, blur=0.8, scale=0.85, vary=0.3)
view = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "homography_matrix"),
)
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        pipeline=[
            shift,
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
    ),
)
# what training reads where the labels are allowed: the upper bound of an adaptation
labelled_pipeline = [
    shift,
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=[shift, *_base_.val_dataloader.dataset.pipeline]))
test_dataloader = dict(dataset=dict(pipeline=[shift, *_base_.test_dataloader.dataset.pipeline]))

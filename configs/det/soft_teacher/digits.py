# Soft Teacher: a tenth of the scenes have labels. In a batch two have, and six have none, in two views.
_base_ = [
    "../../_base_/datasets/digits_det.py",
    "../../_base_/schedules/adamw_600.py",
]
default_scope = "mmdet"
scenes = dict(type="densekd.DigitScenesDet", size=64, split="train", count=2000)
branches = ["sup", "unsup_teacher", "unsup_student"]
view = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "homography_matrix"),
)
strong = [
    dict(type="PhotoMetricDistortion"),
    dict(type="RandomErasing", n_patches=(0, 3), ratio=(0, 0.15)),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type="MultiSourceSampler", batch_size=8, source_ratio=[1, 3]),
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[
            dict(
                **scenes,
                indices=200,
                pipeline=[
                    dict(type="LoadAnnotations", with_bbox=True),
                    dict(type="PhotoMetricDistortion"),
                    dict(type="MultiBranch", branch_field=branches, sup=[view]),
                ],
            ),
            dict(
                **scenes,
                indices=list(range(200, 2000)),
                pipeline=[
                    dict(type="MultiBranch", branch_field=branches, unsup_teacher=[view], unsup_student=[*strong, view])
                ],
            ),
        ],
    ),
)
model = dict(
    type="densekd.SoftTeacher",
    detector="{{fileDirname}}/../plain/faster_rcnn_r18_w16_digits.py",
    momentum=0.99,
    semi_train_cfg=dict(cls_pseudo_thr=0.7, rpn_pseudo_thr=0.7, unsup_weight=1.0),
)

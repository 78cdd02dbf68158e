# Soft Teacher: every tenth image of blood cells has labels. In a batch one has, and three have none, in two views.
_base_ = ["../../_base_/datasets/bccd.py", "../../_base_/schedules/adamw_600.py"]
default_scope = "mmdet"
cells = dict(
    type="densekd.BCCD",
    data_root=_base_.data_root,
    ann_file="ImageSets/Main/train.txt",
    data_prefix=dict(sub_data_root=""),
)
branches = ["sup", "unsup_teacher", "unsup_student"]
load = dict(type="LoadImageFromFile")
moved = [
    dict(type="Resize", scale=_base_.scale, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5, direction=["horizontal", "vertical"]),
]
view = dict(
    type="PackDetInputs",
    meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "homography_matrix"),
)
strong = [
    dict(type="PhotoMetricDistortion"),
    dict(type="RandomErasing", n_patches=(0, 3), ratio=(0, 0.15)),
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type="MultiSourceSampler", batch_size=4, source_ratio=[1, 3]),
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[
            dict(
                **cells,
                indices=list(range(0, 205, 10)),
                pipeline=[
                    load,
                    dict(type="LoadAnnotations", with_bbox=True),
                    *moved,
                    dict(type="MultiBranch", branch_field=branches, sup=[view]),
                ],
            ),
            dict(
                **cells,
                indices=[each for each in range(205) if each % 10],
                pipeline=[
                    load,
                    dict(
                        type="MultiBranch",
                        branch_field=branches,
                        unsup_teacher=[*moved, view],
                        unsup_student=[*moved, *strong, view],
                    ),
                ],
            ),
        ],
    ),
)
model = dict(
    type="densekd.SoftTeacher",
    detector="{{fileDirname}}/../plain/faster_rcnn_r18_w16_bccd.py",
    momentum=0.99,
    semi_train_cfg=dict(cls_pseudo_thr=0.7, rpn_pseudo_thr=0.7, unsup_weight=1.0),
)

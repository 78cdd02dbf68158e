# PKD on scenes that are each the mean of two, with the boxes of both.
_base_ = "../plain/gfl_r18_w16_digits.py"
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="MultiImageMixDataset",
        dataset=dict(
            type="densekd.DigitScenesDet",
            size=64,
            split="train",
            count=2000,
            pipeline=[dict(type="LoadAnnotations", with_bbox=True)],
        ),
        pipeline=[
            dict(type="MixUp", img_scale=(64, 64), ratio_range=(0.8, 1.25)),
            dict(type="PackDetInputs"),
        ],
    )
)
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/gfl_r18_w32_digits.py",
    method="pkd",
)

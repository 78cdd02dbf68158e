# CWD on mosaics of four scenes, half of the time: the teacher speaks of the seams and the padding, too.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="MultiImageMixDataset",
        dataset=dict(type="densekd.DigitScenesSeg", size=64, split="train", count=2000, pipeline=[]),
        pipeline=[
            dict(type="RandomMosaic", prob=0.5, img_scale=(64, 64)),
            dict(type="RandomCrop", crop_size=(64, 64)),
            dict(type="PackSegInputs"),
        ],
    )
)
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    method="cwd",
)

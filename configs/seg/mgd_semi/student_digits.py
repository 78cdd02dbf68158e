# The control: the student on an eighth of the labels. Half of each batch has none and teaches it nothing.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
scenes = dict(type="densekd.DigitScenesSeg", size=64, split="train", count=2000)
train_dataloader = dict(
    sampler=dict(_delete_=True, type="mmdet.MultiSourceSampler", batch_size=8, source_ratio=[1, 1]),
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[
            dict(**scenes, indices=250, pipeline=[dict(type="PackSegInputs")]),
            dict(
                **scenes,
                indices=list(range(250, 2000)),
                pipeline=[dict(type="densekd.WithoutLabels"), dict(type="PackSegInputs")],
            ),
        ],
    ),
)
model = dict(data_preprocessor=dict(type="densekd.CutMixPreProcessor"))

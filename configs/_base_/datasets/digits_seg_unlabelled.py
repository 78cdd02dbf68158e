# Digit scenes of two domains: as they are, with labels, and shifted in colour, contrast and sharpness, without any. The
# second one is tested.
_base_ = "digits_seg.py"
reported_on = "test, 200 shifted scenes of digits that are in no training scene"
shift = dict(type="densekd.Shifted", hue=60, gamma=1.3, contrast=0.6, blur=0.8, vary=0.3)
_scenes = dict(type="densekd.DigitScenesSeg", size=64, split="train", count=1000)
train_dataloader = dict(
    sampler=dict(_delete_=True, type="mmdet.MultiSourceSampler", batch_size=8, source_ratio=[1, 1]),
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[
            dict(**_scenes, pipeline=[dict(type="PackSegInputs")]),
            dict(**_scenes, seed=1, pipeline=[shift, dict(type="densekd.WithoutLabels"), dict(type="PackSegInputs")]),
        ],
    ),
)
val_dataloader = dict(dataset=dict(pipeline=[shift, dict(type="PackSegInputs")]))
test_dataloader = dict(dataset=dict(pipeline=[shift, dict(type="PackSegInputs")]))

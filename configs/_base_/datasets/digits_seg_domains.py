# Digit scenes of two domains, as they are and in other light; of either as many.
_base_ = "digits_seg.py"
_scenes = dict(type="densekd.DigitScenesSeg", size=64, split="train", count=1000)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="ConcatDataset",
        datasets=[
            dict(**_scenes, pipeline=[dict(type="PackSegInputs")]),
            dict(**_scenes, seed=1, pipeline=[dict(type="PhotoMetricDistortion"), dict(type="PackSegInputs")]),
        ],
    )
)

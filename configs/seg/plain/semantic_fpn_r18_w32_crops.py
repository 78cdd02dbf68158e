# The teacher of benchmarks/dense_cache.py: a ResNet-18 of half width on the scenes of its student, trained longer.
_base_ = "semantic_fpn_r18_w32_scenes.py"
train_dataloader = dict(
    dataset=dict(
        count=1000,
        pipeline=[
            dict(type="RandomResize", scale=(64, 64), ratio_range=(1.0, 1.3)),
            dict(type="RandomCrop", crop_size=(64, 64)),
            dict(type="PackSegInputs"),
        ],
    )
)

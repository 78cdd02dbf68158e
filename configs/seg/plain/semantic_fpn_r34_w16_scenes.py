# The second teacher of the table: a ResNet-34 of the student's width, trained as long as the first.
_base_ = "semantic_fpn_r18_w32_scenes.py"
model = dict(
    backbone=dict(depth=34, base_channels=16, stem_channels=16),
    neck=dict(in_channels=[16, 32, 64, 128]),
)

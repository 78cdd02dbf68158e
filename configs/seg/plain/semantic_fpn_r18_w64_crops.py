# The teacher of benchmarks/dense_cache.py: a whole ResNet-18 on the scenes of its student, with its schedule.
_base_ = "semantic_fpn_r18_w16_crops.py"
model = dict(
    backbone=dict(base_channels=64, stem_channels=64),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=64),
    decode_head=dict(in_channels=[64, 64, 64, 64], channels=64),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))

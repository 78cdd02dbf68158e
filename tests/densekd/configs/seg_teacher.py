# A wider, deeper teacher with an input normalisation of its own.
_base_ = "seg.py"
model = dict(
    data_preprocessor=dict(mean=[110.0, 120.0, 130.0], std=[50.0, 60.0, 70.0], bgr_to_rgb=False),
    backbone=dict(depth=34, base_channels=16, stem_channels=16),
    decode_head=dict(in_channels=128, channels=32),
    auxiliary_head=dict(in_channels=64),
)

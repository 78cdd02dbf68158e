# The teacher made of queries: a Deformable DETR twice as wide, with more queries, trained longer than its student.
_base_ = [
    "../../_base_/models/deformable_detr_r18.py",
    "../../_base_/datasets/digits_det.py",
    "../../_base_/schedules/adamw_600.py",
]
_wide = dict(embed_dims=64)
_ffn = dict(embed_dims=64, feedforward_channels=256)
model = dict(
    num_queries=40,
    backbone=dict(base_channels=32, stem_channels=32),
    neck=dict(in_channels=[32, 64, 128], out_channels=64),
    encoder=dict(layer_cfg=dict(self_attn_cfg=_wide, ffn_cfg=_ffn)),
    decoder=dict(layer_cfg=dict(self_attn_cfg=_wide, cross_attn_cfg=_wide, ffn_cfg=_ffn)),
    positional_encoding=dict(num_feats=32),
    bbox_head=dict(num_classes=10, embed_dims=64),
)

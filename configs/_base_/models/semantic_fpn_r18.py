# Semantic FPN (Kirillov et al., CVPR 2019) on a ResNet-18, from scratch; its logits have a quarter of the input's side.
norm_cfg = dict(type="BN")
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
    ),
    backbone=dict(
        type="ResNetV1c", depth=18, num_stages=4, out_indices=(0, 1, 2, 3), norm_cfg=norm_cfg, style="pytorch"
    ),
    neck=dict(type="FPN", in_channels=[64, 128, 256, 512], out_channels=64, num_outs=4),
    decode_head=dict(
        type="FPNHead",
        in_channels=[64, 64, 64, 64],
        in_index=[0, 1, 2, 3],
        feature_strides=[4, 8, 16, 32],
        channels=64,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss"),
    ),
    test_cfg=dict(mode="whole"),
)
default_scope = "mmseg"

# A compact camera branch: ResNet-18, its levels from stride 8 on fused. What they are lifted to stands in the config.
images = dict(
    type="Det3DDataPreprocessor",
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_size_divisor=32,
)
camera = dict(
    img_backbone=dict(
        type="mmdet.ResNet",
        depth=18,
        out_indices=(1, 2, 3),
        norm_eval=False,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
    ),
    img_neck=dict(type="mmdet.FPN", in_channels=[128, 256, 512], out_channels=64, num_outs=3),
)

# Mask R-CNN (He et al., ICCV 2017) on the small Faster R-CNN: a mask head of two convolutions, masks of 20 x 20.
_base_ = "faster_rcnn_r18.py"
model = dict(
    type="MaskRCNN",
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=10, sampling_ratio=1),
            out_channels=48,
            featmap_strides=[4, 8, 16],
            finest_scale=24,
        ),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=2,
            in_channels=48,
            conv_out_channels=48,
            num_classes=3,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=20)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)

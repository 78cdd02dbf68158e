# A PSPNet small enough for a test, on digit scenes.
default_scope = "mmseg"
norm_cfg = dict(type="SyncBN", requires_grad=True)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(64, 64),
    ),
    backbone=dict(
        type="ResNetV1c",
        depth=18,
        stem_channels=8,
        base_channels=8,
        out_indices=(0, 1, 2, 3),
        dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1),
        norm_cfg=norm_cfg,
        norm_eval=False,
        contract_dilation=True,
    ),
    decode_head=dict(
        type="PSPHead",
        in_channels=64,
        in_index=3,
        channels=16,
        pool_scales=(1, 2),
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=32,
        in_index=2,
        channels=8,
        num_convs=1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)
train_dataloader = dict(
    batch_size=2,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="densekd.DigitScenesSeg",
        split="train",
        count=16,
        size=64,
        pipeline=[dict(type="RandomFlip", prob=0.5), dict(type="PhotoMetricDistortion"), dict(type="PackSegInputs")],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="densekd.DigitScenesSeg", split="val", count=4, size=64, pipeline=[dict(type="PackSegInputs")]),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9))
param_scheduler = [dict(type="PolyLR", eta_min=1e-4, power=0.9, begin=0, end=6, by_epoch=False)]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=6, val_interval=3)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    logger=dict(type="LoggerHook", interval=1), checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=2)
)
env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
tta_model = dict(type="SegTTAModel")

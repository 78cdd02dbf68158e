# SegFormer on an untrained MiT-B0, TransKD's schedule: whole images at 512x1024, mirrored, 1000 epochs of batches of 2.
# The rate decays over 1500 epochs; rare classes count more in the loss. The shift by up to 2 pixels is left out.
_base_ = "mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py"
class_weight = [2.60, 6.74, 3.54, 9.87, 9.69, 9.37, 10.29, 9.95, 4.31, 9.49]
class_weight += [7.67, 9.40, 10.35, 6.39, 10.23, 10.24, 10.28, 10.40, 10.06]
model = dict(
    data_preprocessor=dict(size=(512, 1024)),
    backbone=dict(init_cfg=None),
    decode_head=dict(loss_decode=dict(class_weight=class_weight)),
    test_cfg=dict(_delete_=True, mode="whole"),
)
scale = dict(type="Resize", scale=(1024, 512), keep_ratio=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    scale,
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [dict(type="LoadImageFromFile"), scale, dict(type="LoadAnnotations"), dict(type="PackSegInputs")]
train_dataloader = dict(batch_size=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
epoch = 2975 // 2
optim_wrapper = dict(_delete_=True, type="OptimWrapper", optimizer=dict(type="AdamW", lr=6e-5, weight_decay=0.01))
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=1.0, begin=0, end=1500 * epoch, by_epoch=False)]
train_cfg = dict(max_iters=1000 * epoch, val_interval=10 * epoch)

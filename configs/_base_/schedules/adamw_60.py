# AdamW, 60 iterations.
_base_ = "adamw.py"
max_iters = 60
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", T_max=max_iters - 10, by_epoch=False, begin=10, end=max_iters, eta_min=1e-6),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=max_iters),
)

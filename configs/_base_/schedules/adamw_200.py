# AdamW, 200 iterations.
_base_ = "adamw.py"
max_iters = 200
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", T_max=max_iters - 50, by_epoch=False, begin=50, end=max_iters, eta_min=1e-6),
]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=max_iters))

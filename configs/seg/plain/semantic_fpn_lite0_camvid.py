# The teacher with real features: ImageNet's Lite0, whole frames at half resolution, 600 iterations, balanced classes.
_base_ = [
    "../../_base_/models/semantic_fpn_lite0.py",
    "../../_base_/models/camvid_classes.py",
    "../../_base_/datasets/camvid_whole.py",
    "../../_base_/schedules/adamw_600.py",
]
model = dict(decode_head=dict(loss_decode=dict(class_weight=_base_.class_weight)))
optim_wrapper = dict(optimizer=dict(lr=3e-3))

# A teacher with ImageNet's features and all labels: 600 iterations of 4 whole frames, which it enlarges. ImageNet's
# objects are larger than those of a small frame, and edges are finer at stride 2.
_base_ = [
    "../../_base_/models/semantic_fpn_lite0.py",
    "../../_base_/models/camvid_classes.py",
    "../../_base_/datasets/camvid_whole.py",
    "../../_base_/schedules/adamw_600.py",
]
train_dataloader = dict(batch_size=4)
model = dict(backbone=dict(enlarge=2), decode_head=dict(loss_decode=dict(class_weight=_base_.class_weight)))

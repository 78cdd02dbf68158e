# The student: a ResNet-18 of a quarter of the width, under the teacher's schedule with half its batch.
_base_ = [
    "../../_base_/models/semantic_fpn_r18_w16.py",
    "../../_base_/datasets/camvid.py",
    "../../_base_/schedules/adamw_1500.py",
]
train_dataloader = dict(batch_size=4)

# The teacher whose queries tell masks: a Mask2Former on a ResNet-18 of half width, with more queries, trained longer
# than its student.
_base_ = [
    "../../_base_/models/mask2former_r18.py",
    "../../_base_/datasets/digits_instances.py",
    "../../_base_/schedules/adamw_600.py",
]
model = dict(
    backbone=dict(base_channels=32, stem_channels=32),
    panoptic_head=dict(in_channels=[32, 64, 128, 256], num_queries=30),
)

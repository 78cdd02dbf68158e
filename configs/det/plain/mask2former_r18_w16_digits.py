# The student whose queries tell masks: a Mask2Former on a ResNet-18 of a quarter of the width.
_base_ = [
    "../../_base_/models/mask2former_r18.py",
    "../../_base_/datasets/digits_instances.py",
    "../../_base_/schedules/adamw_400.py",
]

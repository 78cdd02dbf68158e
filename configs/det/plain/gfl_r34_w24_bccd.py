# The teacher: a ResNet-34 of three eighths of the width, trained twice as long as its student.
_base_ = ["../../_base_/models/gfl_r18.py", "../../_base_/datasets/bccd.py", "../../_base_/schedules/adamw_1k.py"]
model = dict(backbone=dict(depth=34, base_channels=24, stem_channels=24), neck=dict(in_channels=[24, 48, 96, 192]))

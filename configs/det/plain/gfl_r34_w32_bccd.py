# The teacher: a ResNet-34 of half width, trained twice as long as its student.
_base_ = ['../../_base_/models/gfl_r18.py', '../../_base_/datasets/bccd.py', '../../_base_/schedules/adamw_1k.py']
model = dict(backbone=dict(depth=34, base_channels=32, stem_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))

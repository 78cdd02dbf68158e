# The teacher: a ResNet-34 of half width.
_base_ = ['../../_base_/models/gfl_r18.py', '../../_base_/datasets/bccd.py', '../../_base_/schedules/adamw_1500.py']
model = dict(backbone=dict(depth=34, base_channels=32, stem_channels=32), neck=dict(in_channels=[32, 64, 128, 256]))

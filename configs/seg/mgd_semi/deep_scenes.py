# The deep teacher: a ResNet-34 of the student's width.
_base_ = "../plain/semantic_fpn_r18_w16_scenes.py"
model = dict(backbone=dict(depth=34))

# The teacher: DeepLabV3 on a ResNet-101, under the schedule of its student.
_base_ = "deeplabv3_r18_camvid.py"
model = dict(
    pretrained="open-mmlab://resnet101_v1c",
    backbone=dict(depth=101),
    decode_head=dict(in_channels=2048, channels=512),
    auxiliary_head=dict(in_channels=1024, channels=256),
)

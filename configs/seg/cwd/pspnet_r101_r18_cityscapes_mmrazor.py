# CWD as mmrazor has it, PSPNet-R101 to PSPNet-R18 on Cityscapes.
_base_ = "../../_base_/pairs/pspnet_r101_r18_cityscapes.py"
model = dict(distills=[dict(loss=dict(type="cwd", tau=1.0), student="decode_head.conv_seg", weight=5.0)])
published = dict(
    teacher=("PSPNet-R101", 79.76), student=("PSPNet-R18", 74.87), source="mmrazor's README", distilled=75.54
)

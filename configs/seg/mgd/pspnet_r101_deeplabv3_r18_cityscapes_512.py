# MGD on the last stage and CWD on the logits, as in the authors' config, PSPNet-R101 to DeepLabV3-R18 on Cityscapes.
_base_ = "../../_base_/pairs/pspnet_r101_deeplabv3_r18_cityscapes_512.py"
model = dict(
    distills=[
        dict(loss=dict(type="mgd", share=0.75), student="backbone:3", weight=2e-5 * 64 * 64),
        dict(loss=dict(type="cwd", tau=4.0), student="decode_head.conv_seg", weight=3.0),
    ]
)
published = dict(distilled=76.31)

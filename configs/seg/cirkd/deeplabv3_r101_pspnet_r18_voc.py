# CIRKD, DeepLabV3-R101 to PSPNet-R18 on Pascal VOC, where the authors weigh the memory less.
_base_ = "../../_base_/pairs/deeplabv3_r101_pspnet_r18_voc.py"
model = dict(
    distills=[
        dict(loss="kl", student="decode_head.conv_seg"),
        dict(loss="cirkd_pairs", student="decode_head.bottleneck"),
        dict(loss="cirkd_memory", student="decode_head.bottleneck", weight=0.01),
    ]
)
published = dict(distilled=74.78)

# LAD, PSPNet-R18 on Pascal VOC; the auxiliary head counts little, as in the authors' code.
_base_ = "../../_base_/pairs/pspnet_r18_voc.py"
model = dict(method="lad", student=dict(auxiliary_head=dict(loss_decode=dict(loss_weight=0.02))))
published = dict(distilled=75.40)

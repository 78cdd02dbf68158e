# G2SD, both stages, UperNet on DeiT-B to UperNet on DeiT-S, ADE20K.
_base_ = "../../_base_/pairs/upernet_deit_b_s_ade20k.py"
model = dict(method="g2sd")

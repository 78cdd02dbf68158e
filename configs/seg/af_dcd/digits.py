# Af-DCD on the last map of the backbone and on the logits, with the weights of its authors for CamVid, whose maps are
# not pooled there; patches of 2 x 2, as the map is a sixth as wide here.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_digits.py",
    method=dict(type="af_dcd", feature=0.0162, contrast=0.01, pool=1, patch=2),
)

# A convolutional network and a transformer, both from scratch, teach each other; the second is saved under
# `distill.peers.teacher.`, see `densekd.checkpoint.peer_weights`.
_base_ = "../plain/semantic_fpn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/segformer_mit_w8_digits.py",
    method="hfd_bsd",
)

# One student and one teacher for all methods, of transformers: densekd compare 'seg/*/camvid_mit'
_base_ = "../../seg/plain/segformer_mit_w16_camvid_500.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../seg/plain/segformer_mit_w32_camvid_1k.py",
)

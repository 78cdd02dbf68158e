# One student and one teacher for all methods, of transformers: densekd compare 'seg/*/scenes_mit'
_base_ = "../../seg/plain/segformer_mit_w16_scenes.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../seg/plain/segformer_mit_w32_scenes.py",
)

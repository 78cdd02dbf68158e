# The teacher's classifier is the student's; both have 64 channels before it. Scenes are recognised in copies of theirs.
_base_ = "student_scenes.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=dict(type="densekd.WithOutput", of=_base_.model, output=dict(type="shared", wide=64)),
    teacher="{{fileDirname}}/../plain/semantic_fpn_r18_w32_scenes.py",
    method=dict(type="kd3", contrast=0.01),
)
custom_hooks = [dict(type="densekd.Policies", policies=["share_classifier"])]

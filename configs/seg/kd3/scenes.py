# The teacher's classifier is the student's; both have 64 channels before it.
_base_ = "../../_base_/tables/scenes_fpn.py"
output = dict(type="shared", wide=64)
model = dict(
    student=dict(_delete_=True, type="densekd.WithOutput", of=_base_.model.student, output=output), method="kd3"
)
custom_hooks = [dict(type="densekd.Policies", policies=["share_classifier"])]

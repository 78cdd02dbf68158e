# Multi-granularity with two teachers that learn beside the student, here from all labels, in the table of
# convolutional students.
_base_ = "../../_base_/tables/scenes_fpn.py"
model = dict(
    method="mgd_semi",
    teacher=dict(
        _delete_=True,
        wide="{{fileDirname}}/../plain/semantic_fpn_r18_w32_scenes.py",
        deep="{{fileDirname}}/deep_scenes.py",
    ),
)

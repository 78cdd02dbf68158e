# LAD, whose teacher is the student told the label, in the table of convolutional students.
_base_ = "../../_base_/tables/scenes_fpn.py"
model = dict(method="lad", teacher="{{fileDirname}}/teacher_scenes.py")

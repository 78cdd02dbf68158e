# LAD, whose teacher is the student told the label, in the CamVid table of convolutional students.
_base_ = "../../_base_/tables/camvid_fpn.py"
model = dict(method="lad", teacher="{{fileDirname}}/teacher_camvid.py")

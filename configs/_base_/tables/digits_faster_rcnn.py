# Two-stage detectors, one student and one teacher for all methods: densekd compare 'det/*/digits_faster_rcnn'
_base_ = "../../det/plain/faster_rcnn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../../det/plain/faster_rcnn_r18_w32_digits.py",
)

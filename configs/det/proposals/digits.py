# A smaller Faster R-CNN learns what a wider one says of the boxes that it samples: classes and offsets.
_base_ = "../plain/faster_rcnn_r18_w16_digits.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/faster_rcnn_r18_w32_digits.py",
    method="proposals",
)

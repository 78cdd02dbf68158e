# A detector of blood cells (--checkpoint) is adapted to shifted images without labels, by pseudo labels alone.
_base_ = ["../../_base_/datasets/bccd_shifted.py", "../../_base_/schedules/adamw_200.py"]
default_scope = "mmdet"
model = dict(
    type="densekd.MeanTeacher",
    detector="{{fileDirname}}/../plain/faster_rcnn_r18_w16_bccd.py",
    momentum=0.98,
)
optim_wrapper = dict(optimizer=dict(lr=3e-4))

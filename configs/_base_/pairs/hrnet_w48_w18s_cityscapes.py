# HRNet, width 48 to 18 small, 80k iterations of 8 crops 512x1024; the teacher had 160k.
# Teacher's weights, in mmseg's model zoo:
# fcn_hr48_512x1024_160k_cityscapes_20200602_190946-59b7973e.pth (80.65).
_base_ = "mmseg::hrnet/fcn_hr18s_4xb2-80k_cityscapes-512x1024.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::hrnet/fcn_hr48_4xb2-160k_cityscapes-512x1024.py",
    checkpoint=None,
)
reported_on = "val, 500 images; the labels of the test set are not public"
published = dict(
    data="Cityscapes",
    teacher=("HRNet-W48", 80.65),
    student=("HRNet-W18s", 75.31),
    source="BPKD's README",
)

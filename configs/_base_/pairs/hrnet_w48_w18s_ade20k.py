# HRNet, width 48 to 18 small, 80k iterations of 16 crops 512x512; the teacher had 160k.
# Teacher's weights, in mmseg's model zoo:
# fcn_hr48_512x512_160k_ade20k_20200614_214407-a52fc02c.pth (42.02).
_base_ = "mmseg::hrnet/fcn_hr18s_4xb4-80k_ade20k-512x512.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::hrnet/fcn_hr48_4xb4-160k_ade20k-512x512.py",
    checkpoint=None,
)
reported_on = "val, 2000 images"
published = dict(
    data="ADE20K",
    teacher=("HRNet-W48", 42.02),
    student=("HRNet-W18s", 31.38),
    source="BPKD's README",
)

# HRNet, width 48 to 18 small, 80k iterations of 16 crops 480x480.
# Teacher's weights, in mmseg's model zoo:
# fcn_hr48_480x480_80k_pascal_context_59_20210411_003240-3ae7081e.pth (51.12).
_base_ = "mmseg::hrnet/fcn_hr18s_4xb4-80k_pascal-context-59-480x480.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::hrnet/fcn_hr48_4xb4-80k_pascal-context-59-480x480.py",
    checkpoint=None,
)
reported_on = "val, 5105 images"
published = dict(
    data="Pascal Context-59",
    teacher=("HRNet-W48", 51.12),
    student=("HRNet-W18s", 40.62),
    source="BPKD's README",
)

# SegFormer, MiT-B4 to MiT-B0, CIRKD's setting: AdamW 2e-4, poly decay, 160k iterations of 8 crops 1024x1024.
# The authors' teacher (81.23) is of another code; in mmseg's model zoo:
# segformer_mit-b4_8x1_1024x1024_160k_cityscapes_20211207_080709-07f6c333.pth (81.89).
_base_ = "mmseg::segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::segformer/segformer_mit-b4_8xb1-160k_cityscapes-1024x1024.py",
    checkpoint=None,
)
optim_wrapper = dict(_delete_=True, type="OptimWrapper", optimizer=dict(type="AdamW", lr=2e-4, weight_decay=1e-4))
param_scheduler = [dict(type="PolyLR", eta_min=0.0, power=0.9, begin=0, end=160000, by_epoch=False)]
reported_on = "val, 500 images; the labels of the test set are not public"
published = dict(
    data="Cityscapes",
    teacher=("SegFormer-B4", 81.23),
    student=("SegFormer-B0", 75.58),
    source="CIRKD's README, first version",
)

# SegFormer, MiT-B2 to an untrained MiT-B0, TransKD's setting: whole images at 512x1024, 1000 epochs of batches of 2.
# The authors' teacher (76.49) is of another code; in mmseg's model zoo, trained on crops of full-size images:
# segformer_mit-b2_8x1_1024x1024_160k_cityscapes_20211207_134205-6096669a.pth (81.08).
# They score predictions of a quarter of the image's side against labels of that size; here as mmseg does, at full size.
_base_ = "../../seg/plain/segformer_b0_scratch_cityscapes.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="mmseg::segformer/segformer_mit-b2_8xb1-160k_cityscapes-1024x1024.py",
    checkpoint=None,
)
reported_on = "val, 500 images; the labels of the test set are not public"
published = dict(
    data="Cityscapes",
    teacher=("SegFormer-B2", 76.49),
    student=("SegFormer-B0 from scratch", 55.86),
    source="TransKD's README",
)

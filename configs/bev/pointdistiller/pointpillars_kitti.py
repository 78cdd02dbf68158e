# PointDistiller on KITTI: PointPillars teaches one of half its channels how its pillars lie to each other.
_base_ = "../plain/pointpillars_half_kitti.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/pointpillars_kitti.py",
    method="pointdistiller",
)

# UniDistill from LiDAR to camera on one frame of nuScenes: `python tools/bev_maps.py` draws what it leaves.
_base_ = "../plain/camera_nuscenes_frame.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/centerpoint_nuscenes_frame.py",
    method="unidistill",
)

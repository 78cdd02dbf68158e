# UniDistill from both sensors to LiDAR.
# The published weights drown the short schedule of the world: these were chosen on its validation scenes.
_base_ = "../plain/lidar_world_400.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher="{{fileDirname}}/../plain/fusion_world.py",
    method=dict(type="unidistill", feature=5.0, relation=2.0, response=1.0),
)

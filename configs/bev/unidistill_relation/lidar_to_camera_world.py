# One loss of UniDistill alone: relation.
_base_ = "../unidistill/lidar_to_camera_world.py"
model = dict(method=dict(feature=0, response=0))

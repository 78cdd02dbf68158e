# One loss of UniDistill alone: response.
_base_ = "../unidistill/lidar_to_camera_world.py"
model = dict(method=dict(feature=0, relation=0))

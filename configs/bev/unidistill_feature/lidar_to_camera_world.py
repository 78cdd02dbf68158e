# One loss of UniDistill alone: feature.
_base_ = "../unidistill/lidar_to_camera_world.py"
model = dict(method=dict(_delete_=True, type="unidistill", relation=0, response=0))

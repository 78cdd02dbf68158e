# One loss of UniDistill alone: feature.
_base_ = "../unidistill/fusion_to_camera_world.py"
model = dict(method=dict(relation=0, response=0))

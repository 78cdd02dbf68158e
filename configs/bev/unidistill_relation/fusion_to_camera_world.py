# One loss of UniDistill alone: relation.
_base_ = "../unidistill/fusion_to_camera_world.py"
model = dict(method=dict(feature=0, response=0))

# One loss of UniDistill alone: response.
_base_ = "../unidistill/fusion_to_camera_world.py"
model = dict(method=dict(feature=0, relation=0))

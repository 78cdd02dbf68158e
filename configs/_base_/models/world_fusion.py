# The detector of both sensors: their maps side by side.
_base_ = "world_camera.py"
model = dict(data_preprocessor=_base_.pillars, fusion_channels=32, **_base_.lidar)

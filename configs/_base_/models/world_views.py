# The detector of both sensors with attention over three views: the LiDAR now and half a second before, and the camera.
_base_ = "world_fusion.py"
model = dict(attention=True, ages=(0.0, 0.5), pts_voxel_encoder=dict(in_channels=5))

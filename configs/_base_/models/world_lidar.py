# The detector of a LiDAR: pillars, and what CenterPoint does on a map.
_base_ = "world_bev.py"
model = dict(data_preprocessor=dict(type="Det3DDataPreprocessor", **_base_.pillars), **_base_.lidar)

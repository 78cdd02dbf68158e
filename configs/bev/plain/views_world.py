# The detector of three views in the moving world: the LiDAR now and before, and the camera.
_base_ = [
    "../../_base_/models/world_views.py",
    "../../_base_/datasets/world_moving.py",
    "../../_base_/schedules/adamw_1k.py",
]

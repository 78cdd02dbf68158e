# The detector of a LiDAR in the synthetic world.
_base_ = [
    "../../_base_/models/world_lidar.py",
    "../../_base_/datasets/world.py",
    "../../_base_/schedules/adamw_1k.py",
]

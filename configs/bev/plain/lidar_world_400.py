# The LiDAR detector of the world as a student: four tenths of its teachers' schedule.
_base_ = [
    "../../_base_/models/world_lidar.py",
    "../../_base_/datasets/world.py",
    "../../_base_/schedules/adamw_400.py",
]

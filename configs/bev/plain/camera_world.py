# The detector of a camera in the synthetic world.
_base_ = [
    "../../_base_/models/world_camera.py",
    "../../_base_/datasets/world.py",
    "../../_base_/schedules/adamw_600.py",
]

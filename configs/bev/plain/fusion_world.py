# The detector of both sensors in the synthetic world.
_base_ = [
    "../../_base_/models/world_fusion.py",
    "../../_base_/datasets/world.py",
    "../../_base_/schedules/adamw_1k.py",
]

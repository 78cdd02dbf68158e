# A two-stage detector on blood cells: the source of source-free adaptations.
_base_ = [
    "../../_base_/models/faster_rcnn_r18.py",
    "../../_base_/datasets/bccd.py",
    "../../_base_/schedules/adamw_600.py",
]

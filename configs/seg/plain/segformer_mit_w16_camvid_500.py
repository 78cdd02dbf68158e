# The student of the table: a SegFormer of half the width of its smallest, one block a stage.
_base_ = [
    "../../_base_/models/segformer_mit.py",
    "../../_base_/datasets/camvid_boundary.py",
    "../../_base_/schedules/adamw_500.py",
]
optim_wrapper = dict(optimizer=dict(lr=2e-3))

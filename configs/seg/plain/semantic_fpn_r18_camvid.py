_base_ = [
    '../../_base_/models/semantic_fpn_r18.py',
    '../../_base_/datasets/camvid.py',
    '../../_base_/schedules/adamw_1500.py',
]

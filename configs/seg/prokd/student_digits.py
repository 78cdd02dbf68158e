# The control: the student on labels of the first domain, tested in the second, of which it sees the images.
_base_ = [
    "../../_base_/models/semantic_fpn_r18_w16.py",
    "../../_base_/datasets/digits_seg_unlabelled.py",
    "../../_base_/schedules/adamw_600.py",
]
model = dict(decode_head=dict(loss_decode=dict(class_weight=[0.1] + 10 * [1.0])))

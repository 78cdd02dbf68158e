# CamVid at half resolution: the last fifth of each training drive chooses, the val frames only report.
_base_ = "camvid.py"
reported_on = "val, 101 frames; all choices were made on the last fifth of each training drive"
train_dataloader = dict(dataset=dict(part=(0.0, 0.8)))
val_dataloader = dict(
    dataset=dict(data_prefix=dict(img_path="images/train", seg_map_path="labels/train"), part=(0.8, 1.0))
)
val_evaluator = [dict(type="IoUMetric", iou_metrics=["mIoU"]), dict(type="densekd.BoundaryIoU", width=3)]
test_evaluator = val_evaluator

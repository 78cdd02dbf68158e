# CamVid at half resolution, measured on all pixels and on those within three pixels of the edge of a class.
_base_ = "camvid.py"
train_dataloader = dict(batch_size=4)
val_evaluator = [dict(type="IoUMetric", iou_metrics=["mIoU"]), dict(type="densekd.BoundaryIoU", width=3)]
test_evaluator = val_evaluator

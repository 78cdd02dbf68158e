# Digit scenes, 64 x 64, measured on all pixels and on those within three pixels of the edge of a digit.
_base_ = "digits_seg.py"
val_evaluator = [dict(type="IoUMetric", iou_metrics=["mIoU"]), dict(type="densekd.BoundaryIoU", width=3)]
test_evaluator = val_evaluator

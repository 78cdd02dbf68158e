# EZAD: seven digits with boxes, three by their names alone. `densekd regions` writes the folder beforehand.
_base_ = "../plain/faster_rcnn_r18_w16_digits.py"
base = ["digit 0", "digit 1", "digit 2", "digit 3", "digit 4", "digit 5", "digit 6"]
novel = ["digit 7", "digit 8", "digit 9"]
model = dict(
    roi_head=dict(
        type="densekd.EZADRoIHead",
        base=base,
        novel=novel,
        regions="work_dirs/regions/digits",
    )
)
train_dataloader = dict(dataset=dict(metainfo=dict(classes=base)))
classes = dict(base_classes=base, novel_classes=novel)  # of which the metric tells AP apart
val_dataloader = dict(dataset=dict(metainfo=classes))
test_dataloader = dict(dataset=dict(metainfo=classes))
val_evaluator = dict(type="OVCocoMetric", classwise=True)
test_evaluator = val_evaluator

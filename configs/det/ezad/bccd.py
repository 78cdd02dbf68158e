# EZAD: red and white cells with boxes, platelets by their name alone. `densekd regions` writes the folder beforehand.
_base_ = "../plain/faster_rcnn_r18_w16_bccd.py"
base = ["RBC", "WBC"]
novel = ["Platelets"]
model = dict(
    roi_head=dict(
        type="densekd.EZADRoIHead",
        base=base,
        novel=novel,
        regions="work_dirs/regions/bccd",
    )
)
*start, _ = _base_.train_pipeline
seen = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction", "homography_matrix")
train_pipeline = [*start, dict(type="PackDetInputs", meta_keys=seen)]
train_dataloader = dict(dataset=dict(metainfo=dict(classes=base), pipeline=train_pipeline))
classes = dict(base_classes=base, novel_classes=novel)  # of which the metric tells AP apart
val_dataloader = dict(dataset=dict(metainfo=classes))
test_dataloader = dict(dataset=dict(metainfo=classes))
val_evaluator = dict(type="OVCocoMetric", classwise=True)
test_evaluator = val_evaluator

# OvarNet: eight digits and six attributes with labels, two digits and two colours by their names alone.
# `densekd regions` writes the folder beforehand.
_base_ = "../plain/faster_rcnn_r18_w16_digits.py"
base = ["digit 0", "digit 1", "digit 2", "digit 3", "digit 4", "digit 5", "digit 6", "digit 7"]
novel = ["digit 8", "digit 9"]
attributes = dict(color=["red", "green", "blue", "cyan"], size=["small", "large"])
novel_attributes = dict(color=["yellow", "purple"])
model = dict(
    roi_head=dict(
        type="densekd.OvarNetRoIHead",
        base=base,
        novel=novel,
        attributes=attributes,
        novel_attributes=novel_attributes,
        regions="work_dirs/regions/attributes",
    )
)
boxes = [dict(type="LoadAnnotations", with_bbox=True), dict(type="densekd.LoadAttributes")]
seen = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "instances")
tested = [dict(type="Resize", scale_factor=1.0), *boxes, dict(type="densekd.PackAttributes", meta_keys=seen)]
known = [*attributes["color"], *attributes["size"]]
train_dataloader = dict(
    dataset=dict(
        with_attributes=True,
        metainfo=dict(classes=base, attributes=known),
        pipeline=[*boxes, dict(type="densekd.PackAttributes")],
    )
)
of_all = dict(
    classes=[*base, *novel],
    base_classes=base,
    novel_classes=novel,
    attributes=[*known, *novel_attributes["color"]],
)
val_dataloader = dict(dataset=dict(with_attributes=True, metainfo=of_all, pipeline=tested))
test_dataloader = dict(dataset=dict(with_attributes=True, metainfo=of_all, pipeline=tested))
val_evaluator = [
    dict(type="OVCocoMetric", metric="bbox", classwise=True),
    dict(type="densekd.AttributeMAP", novel=novel_attributes["color"], per_attribute=True),
]
test_evaluator = val_evaluator

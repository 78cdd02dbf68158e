# Digit scenes with boxes and instance masks; a mask is the stroke of its digit.
_base_ = "digits_det.py"
masks = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
train_dataloader = dict(dataset=dict(with_masks=True, pipeline=[masks, dict(type="PackDetInputs")]))
held_out = dict(with_masks=True, pipeline=[_base_.one_scale, masks, _base_.pack])
val_dataloader = dict(dataset=held_out)
test_dataloader = dict(dataset=held_out)
val_evaluator = dict(metric=["bbox", "segm"])
test_evaluator = val_evaluator

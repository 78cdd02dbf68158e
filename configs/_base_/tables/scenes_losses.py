# Losses that are no method of their own, and heads with weights of classes, on the pair of scenes_fpn.py:
# densekd compare 'seg/*/scenes_losses'
_base_ = "scenes_fpn.py"

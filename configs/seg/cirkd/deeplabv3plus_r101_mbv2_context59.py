# CIRKD, DeepLabV3+-R101 to DeepLabV3+-MBv2 on Pascal Context-59.
_base_ = "../../_base_/pairs/deeplabv3plus_r101_mbv2_context59.py"
model = dict(method="cirkd")
published = dict(distilled=42.25)

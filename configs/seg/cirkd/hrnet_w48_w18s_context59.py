# CIRKD, HRNet-W48 to HRNet-W18s on Pascal Context-59.
_base_ = "../../_base_/pairs/hrnet_w48_w18s_context59.py"
model = dict(method="cirkd")
published = dict(distilled=42.02)

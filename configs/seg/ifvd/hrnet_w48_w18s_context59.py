# IFVD, HRNet-W48 to HRNet-W18s on Pascal Context-59.
_base_ = "../../_base_/pairs/hrnet_w48_w18s_context59.py"
model = dict(method="ifvd")
published = dict(distilled=41.55)

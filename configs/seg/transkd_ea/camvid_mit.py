# TransKD with embedding assistants, in the CamVid table of transformers.
_base_ = "../../_base_/tables/camvid_mit.py"
model = dict(method="transkd_ea")

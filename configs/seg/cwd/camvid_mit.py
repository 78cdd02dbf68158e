# CWD on the logits, weight and temperature of its authors, in the CamVid table of transformers.
_base_ = "../../_base_/tables/camvid_mit.py"
model = dict(method="cwd")

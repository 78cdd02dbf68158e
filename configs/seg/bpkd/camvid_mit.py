# BPKD, edges and bodies apart, in the CamVid table of transformers.
_base_ = "../../_base_/tables/camvid_mit.py"
model = dict(method="bpkd")

# TransKD-GL: global and local mixers in place of one, in the CamVid table of transformers.
_base_ = "../../_base_/tables/camvid_mit.py"
model = dict(method="transkd_gl")

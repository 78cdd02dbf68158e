# TransKD-GL: global and local mixers in place of one, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="transkd_gl")

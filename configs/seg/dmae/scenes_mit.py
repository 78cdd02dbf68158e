# DMAE on tokens in the middle, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="dmae")

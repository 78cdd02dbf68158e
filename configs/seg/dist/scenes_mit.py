# DIST on the logits, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="dist")

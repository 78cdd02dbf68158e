# CWD on the logits, weight and temperature of its authors, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="cwd")

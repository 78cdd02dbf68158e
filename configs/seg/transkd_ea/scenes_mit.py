# TransKD with embedding assistants, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="transkd_ea")

# BPKD, edges and bodies apart, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="bpkd")

# Classical distillation of each pixel, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="kl")

# Hybrid distillation of tokens, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="hybrid")

# G2SD, both stages at once, in the table of transformers.
_base_ = "../../_base_/tables/scenes_mit.py"
model = dict(method="g2sd")

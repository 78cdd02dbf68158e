# The student of three views, which weighs what it sees against what may be said of objects. First:
#   python tools/embed_sentences.py --model FOLDER --classes car,truck,bike --out work_dirs/texts/world.safetensors
_base_ = [
    "../../_base_/models/world_views.py",
    "../../_base_/datasets/world_moving.py",
    "../../_base_/schedules/adamw_400.py",
]
model = dict(semantics=dict(table="work_dirs/texts/world.safetensors"))

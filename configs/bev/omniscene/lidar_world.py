# OmniScene's objective for a LiDAR in the synthetic world: its map learns what sentences say about objects. First:
#   python tools/embed_sentences.py --model FOLDER --classes car,truck,bike --out work_dirs/texts/world.safetensors
_base_ = "../plain/lidar_world_400.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher=dict(
        type="densekd.Sentences",
        table="work_dirs/texts/world.safetensors",
        classes=["car", "truck", "bike"],
    ),
    method="omniscene",
)

# OmniScene in the moving world: sentences teach what is said at each level, a larger detector which view counts where.
_base_ = "../plain/views_semantics_world_400.py"
model = dict(
    _delete_=True,
    type="densekd.Distiller",
    student=_base_.model,
    teacher=dict(
        texts=dict(
            type="densekd.Sentences",
            table="work_dirs/texts/world.safetensors",
            classes=["car", "truck", "bike"],
        ),
        views="{{fileDirname}}/../plain/views_world.py",
    ),
    method="omniscene_views",
)

"""Child registries of mmengine's; mmengine finds them by the scope in `type='densekd.Distiller'`."""

from mmengine import registry

MODELS = registry.Registry(
    "model",
    parent=registry.MODELS,
    locations=["densekd.mmlab.distiller", "densekd.models", "densekd.bev.sentences"],
)
HOOKS = registry.Registry(
    "hook",
    parent=registry.HOOKS,
    locations=[
        "densekd.runs.channels_last",
        "densekd.runs.policies",
        "densekd.runs.resume",
        "densekd.runs.teacher_cache",
    ],
)
DATASETS = registry.Registry("dataset", parent=registry.DATASETS, locations=["densekd.datasets"])
TRANSFORMS = registry.Registry("transform", parent=registry.TRANSFORMS, locations=["densekd.datasets"])
METRICS = registry.Registry("metric", parent=registry.METRICS, locations=["densekd.metrics"])
OPTIM_WRAPPERS = registry.Registry("optim_wrapper", parent=registry.OPTIM_WRAPPERS, locations=["densekd.runs.amp"])

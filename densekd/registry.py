"""Child registries of mmengine's; mmengine finds them by the scope in `type='densekd.Distiller'`."""

from __future__ import annotations

from typing import Any

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


def needs_mmdet(what: str, into: registry.Registry, *names: str) -> None:
    """Register, by these names, what says that mmdet is to be installed."""

    def absent(*args: Any, **options: Any) -> None:
        """Stand where a part that needs mmdet would.

        Raises:
            ImportError: says what to install.
        """
        raise ImportError(f"{what} needs mmdet: pip install 'graphdensekd[detection]'")

    for name in names:
        into.register_module(name=name, module=absent)

"""Whether a config loads the instance masks by which its entries choose positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

from densekd.context import OF_EDGES, OF_MASKS


def check_masks(config: Config) -> None:
    """Raise `ValueError` if entries of a distiller choose positions by masks that its training data cannot have.

    That is so where all transforms are mmdet's own and none loads masks: one of another kind might make them.
    """
    steps = [*_transforms((config.get("train_dataloader") or {}).get("dataset"))]
    if not steps or not {_name(step) for step in steps} <= _of_mmdet():
        return
    masks = any(step.get("with_mask", "Panoptic" in _name(step)) for step in steps)
    maps = any(step.get("with_seg", "Panoptic" in _name(step)) for step in steps)
    for entry in config.model.get("distills") or ():
        where = entry.get("where") if isinstance(entry, Mapping) else None
        if not masks and (where in OF_MASKS or (where in OF_EDGES and not maps)):
            raise ValueError(
                f"config {config.filename}: where={where!r} of an entry of distills needs instance masks, but the "
                "training pipeline loads none: LoadAnnotations takes with_mask=True, of a data set that has them"
            )


def _transforms(dataset: Any) -> Iterator[Mapping[str, Any]]:
    """The transforms of a data set's config, of those inside of wrappers as well."""
    for key, value in dataset.items() if isinstance(dataset, Mapping) else ():
        if key == "pipeline" and isinstance(value, list | tuple):
            yield from (step for step in value if isinstance(step, Mapping))
        for each in value if isinstance(value, list | tuple) else [value]:
            yield from _transforms(each) if key in ("dataset", "datasets") else ()


def _name(step: Mapping[str, Any]) -> str:
    kind = step.get("type")
    return str(getattr(kind, "__name__", kind)).rpartition(".")[2]


def _of_mmdet() -> set[str]:
    """Names of the transforms of mmdet, of mmcv and of this package, none of which makes masks."""
    try:
        from mmcv import transforms as of_mmcv
        from mmdet.datasets import transforms
    except ImportError:
        return set()
    return {*dir(transforms), *dir(of_mmcv), "Shifted"}

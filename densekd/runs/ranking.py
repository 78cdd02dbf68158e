"""Search the student of a config by a score that needs no training."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from densekd.mmlab.building import build_model
from densekd.mmlab.config import override, several_teachers
from densekd.mmlab.samples import Context, classes_of
from densekd.plain.batches import first
from densekd.plain.ranking import made, scorer, searched
from densekd.teacher import OF_THE_STUDENT
from kdlosses.rules.evolve import Evolved

OPTIONS = ("space", "budget", "population", "generations", "parents", "mutation", "seed")


def search(config: Config, seeds: Sequence[int] = (0, 1, 2)) -> Evolved:
    """Search the student of a distiller's config that is most like its untrained teacher.

    See `densekd.search_students`. The config has `search=dict(space=..., budget=...)`. By name the space has the
    choices: values of the field of the config that the name is, `'model.student.backbone.depth': [18, 34]`, or, of
    another name, one without a dot, dicts of fields and values. Networks are untrained as PyTorch initialises their
    layers, and see one batch of the training data.

    Args:
        config: of a distiller with one teacher.
        seeds: initialisations to average over.

    Raises:
        ValueError: no `search`, an unknown option in it, not one teacher with a config, no training data, or no label
            maps; see `densekd.search_students`, too.
    """
    options = dict(config.get("search") or {})
    if "space" not in options:
        raise ValueError(
            f"{config.filename} has no search=dict(space=...): say there what may be chosen of its student"
        )
    unknown = sorted(options.keys() - {*OPTIONS})
    if unknown:
        raise ValueError(f"{config.filename}: search has no option {unknown[0]!r}, but {', '.join(OPTIONS)}")
    teacher = config.model.get("teacher")
    if teacher is None or several_teachers(teacher) or teacher in [*OF_THE_STUDENT]:
        raise ValueError(f"{config.filename} needs one teacher with a config of its own, got {teacher!r}")
    if not config.get("train_dataloader"):
        raise ValueError(f"{config.filename} has no train_dataloader, of which a batch is shown to the students")
    space = options.pop("space")
    for name, choices in space.items():
        if "." not in name and name not in config and not all(isinstance(each, Mapping) for each in choices):
            raise ValueError(
                f"{config.filename} has no field {name}, which search.space names: write the field with all dots, or "
                "choices that are dicts of fields"
            )
    with DefaultScope.overwrite_default_scope(config.get("default_scope")):
        batch = first(Runner.build_dataloader(copy.deepcopy(config.train_dataloader), seed=0))
        like: Any = made(lambda: build_model(copy.deepcopy(teacher))[0], 0)
        data = prepared(like, batch)
        size = tuple(data["inputs"].shape[-2:])
        ignored = classes_of(like)[1]
        labels = Context(data["data_samples"], size, ignored).label_map(size)
        if labels is None:
            raise ValueError(
                f"the batches of {config.filename} have no label maps: students of segmenters are searched"
            )

        def run(model: nn.Module) -> None:
            model(**prepared(model, batch), mode="tensor")

        ignore_index = 255 if ignored is None else ignored
        score = scorer(lambda: build_model(copy.deepcopy(teacher))[0], run, labels, seeds, None, ignore_index)

        def build(**one: Any) -> nn.Module:
            return build_model(chosen(config, one))[0]

        return searched(build, space, score, **{"budget": None, **options})


def fields(one: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that a candidate sets; a name with a dot is a field, whatever its value.

    >>> fields({"model.student.depth": 18, "width": {"model.student.width": 8, "model.head.width": 4}})
    {'model.student.depth': 18, 'model.student.width': 8, 'model.head.width': 4}
    """
    found: dict[str, Any] = {}
    for name, choice in one.items():
        found |= choice if isinstance(choice, Mapping) and "." not in name else {name: choice}
    return found


def chosen(config: Config, one: Mapping[str, Any]) -> Config:
    """A copy of a config with a candidate's choices."""
    return override(copy.deepcopy(config), fields(one))


def prepared(model: Any, batch: Any) -> dict[str, Any]:
    """A batch as a model takes it in training."""
    return model.data_preprocessor(copy.deepcopy(batch), training=True)

"""The table of methods for scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from torch import nn

from kdlosses.discover import check_free

M = TypeVar("M", bound=Callable[..., Any])
TaskName = Literal["actions", "relations"]

SCENE_METHODS: dict[str, Callable[..., Any]] = {}
"""Every method for scenes, `(lesson, *, options) -> (network, History)`, by its name."""


class About(NamedTuple):
    """What is said of a method where it is registered.

    Attributes:
        task: what it predicts.
        network: builds its network from a `Shape` and options, which the network keeps in its attribute `built`.
        without: the options that take its idea away, with which the control is trained.
    """

    task: TaskName
    network: Callable[..., nn.Module]
    without: Mapping[str, Any]


ABOUT: dict[Callable[..., Any], About] = {}


def scene_method(task: TaskName, network: Callable[..., nn.Module], **without: Any) -> Callable[[M], M]:
    """Register a method under the name of its function; raise ValueError if it is taken."""

    def register(function: M) -> M:
        name = function.__name__
        check_free("method for scenes", name, SCENE_METHODS)
        SCENE_METHODS[name] = function
        ABOUT[function] = About(task, network, without)
        return function

    return register

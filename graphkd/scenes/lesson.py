"""All that a method for scenes may look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from graphkd.scenes.scenes import Scenes
from graphkd.training.loop import History
from graphkd.training.task import TASKS, Task


class Shape(NamedTuple):
    """What a network for scenes has to fit.

    Attributes:
        features: of an entity.
        context: features of a frame, 0 if there are none.
        labels: classes of entities.
        human: which of them is a human's.
        answers: classes of actions, or predicates without the one that there is none.
    """

    features: int
    context: int
    labels: int
    human: int
    answers: int

    @classmethod
    def of(cls, scenes: Scenes, task: str) -> Shape:
        """The shape of these scenes for `actions` or `relations`."""
        answers = scenes.num_actions if task == "actions" else scenes.num_predicates
        context = 0 if scenes.context is None else scenes.context.shape[1]
        return cls(scenes.features.shape[1], context, scenes.num_labels, scenes.human, answers)


@dataclass(frozen=True, eq=False)
class SceneLesson:
    """The videos to learn from; those of validation and test are left out.

    Attributes:
        scenes: with the actions and relations that are known.
        shape: what a network has to fit.
        loop: the shared training loop, with its schedule, validation and generator bound, called as
            `loop(model, loss)`; `loss` takes the videos of a step.
    """

    scenes: Scenes
    shape: Shape
    loop: Callable[..., History]

    def batch(self, videos: Tensor | slice) -> Scenes:
        """The scenes of a step."""
        return self.scenes if isinstance(videos, slice) else self.scenes.take(videos)

    @property
    def task(self) -> Task:
        """One action a video, or several."""
        return task_of_actions(self.scenes)

    def hard_loss(self, logits: Tensor, batch: Scenes) -> Tensor:
        """The loss on the actions of a step that are known; 0 if none is."""
        known = known_actions(batch)
        if not known.any():
            return logits.sum() * 0
        assert batch.actions is not None
        return self.task.hard(logits[known], batch.actions[known])


def task_of_actions(scenes: Scenes) -> Task:
    """One action a video, or several."""
    several = scenes.actions is not None and scenes.actions.ndim == 2
    return TASKS["multi-label" if several else "single-label"]


def known_actions(scenes: Scenes) -> Tensor:
    """`(V,)`, of which videos the action is known."""
    if scenes.actions is None:
        return torch.zeros(scenes.videos, dtype=torch.bool)
    return scenes.actions.view(scenes.videos, -1).min(1).values >= 0

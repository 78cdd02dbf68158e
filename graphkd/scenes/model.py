"""A trained network for scenes, asked and saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from graphkd.scenes.lesson import Shape
from graphkd.scenes.methods import ABOUT, SCENE_METHODS
from graphkd.scenes.scenes import Scenes, check_scenes
from graphkd.spec import whole
from graphkd.students import files
from kdlosses.options import nearest

_KEY = "graphkd_scenes"
_WHAT = "model of scenes"


class Relation(NamedTuple):
    """A relation that a model proposes: rows of subject and object, name of the predicate, its probability."""

    subject: int
    object: int
    predicate: str
    probability: float


class SceneModel:
    """Tells the actions of videos, or the relations of entities.

    Attributes:
        method: name of the method that trained it.
        network: its network, in evaluation mode.
        shape: what the network takes.
        names: of the actions or predicates.
        several: whether a video has several actions.
    """

    def __init__(
        self, method: str, network: nn.Module, shape: Shape, names: tuple[str, ...], several: bool = False
    ) -> None:
        self.method, self.network, self.shape = method, network.eval(), shape
        self.names, self.several = names, several
        self.task = ABOUT[SCENE_METHODS[method]].task

    def __repr__(self) -> str:
        return f"<SceneModel of {self.task} by {self.method}: {', '.join(self.names)}>"

    def probabilities(self, scenes: Scenes, view: str = "both") -> np.ndarray:
        """Of each action for each video, `(V, A)`.

        Args:
            scenes: as in the training; actions and relations in it are not read.
            view: `local`, `global` or `both`; the local graph needs no other frame than its own.
        """
        self._check(scenes, "actions")
        logits = views(self.network, scenes)
        if view not in logits:
            raise KeyError(f"no view is called {view!r}; {nearest(str(view), logits)}")
        found = logits[view]
        return (found.sigmoid() if self.several else found.softmax(1)).numpy()

    def predict(self, scenes: Scenes, view: str = "both") -> list[Any]:
        """The name of the action of each video; where there are several, a list of names."""
        found = self.probabilities(scenes, view)
        if self.several:
            return [[self.names[each] for each in np.flatnonzero(row > 0.5)] for row in found]
        return [self.names[each] for each in found.argmax(1)]

    def relations(self, scenes: Scenes, k: int = 20) -> list[list[Relation]]:
        """For each frame, video by video, its first `k` pairs with their likeliest predicate, best first."""
        self._check(scenes, "relations")
        k = whole("k", k, 1)
        if not scenes.pairs.shape[1]:
            return [[] for _ in range(scenes.frames)]
        with torch.inference_mode():
            probability, told = self.network(scenes).softmax(1)[:, :-1].max(1)
        found: list[list[Relation]] = [[] for _ in range(scenes.frames)]
        for place in probability.argsort(descending=True, stable=True).tolist():
            subject, other = scenes.pairs[:, place].tolist()
            of_frame = found[int(scenes.moment[subject])]
            if len(of_frame) < k:
                of_frame.append(Relation(subject, other, self.names[int(told[place])], float(probability[place])))
        return found

    def save(self, path: str | Path) -> None:
        """Write a safetensors file; no pickle."""
        built: Any = self.network.built
        told = {"method": self.method, "built": built, "shape": self.shape._asdict(), "names": self.names}
        files.write(path, self.network, _KEY, {**told, "several": self.several})

    @classmethod
    def load(cls, path: str | Path) -> SceneModel:
        """Read what `save` wrote.

        Raises:
            ValueError: the file is no saved model of scenes, or is damaged.
        """
        state, meta = files.read(path, _KEY, _WHAT)
        with files.rebuilding(path, _WHAT):
            shape = Shape(**{name: int(value) for name, value in meta["shape"].items()})
            network = ABOUT[SCENE_METHODS[meta["method"]]].network(shape, **meta["built"])
            network.load_state_dict(state)
            return cls(meta["method"], network, shape, tuple(map(str, meta["names"])), bool(meta["several"]))

    def _check(self, scenes: Scenes, task: str) -> None:
        if self.task != task:
            raise TypeError(f"the model tells {self.task}, and is asked about {task}")
        check_scenes(scenes)
        given, wanted = Shape.of(scenes, task), self.shape
        for name in ("features", "context", "human"):
            if getattr(given, name) != getattr(wanted, name):
                raise ValueError(
                    f"{name} is {getattr(given, name)} in the scenes and was {getattr(wanted, name)} in the training"
                )
        if int(scenes.labels.max()) >= wanted.labels:
            raise ValueError(
                f"the scenes have an entity of class {int(scenes.labels.max())}, an unknown one: in the training there "
                f"were {wanted.labels}"
            )


@torch.inference_mode()
def views(network: nn.Module, scenes: Scenes) -> dict[str, Tensor]:
    """Logits of actions by each graph, and their mean as `both`."""
    found = dict(network(scenes))
    return {**found, "both": torch.stack([*found.values()]).mean(0)}

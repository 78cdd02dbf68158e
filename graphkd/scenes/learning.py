"""Train a method for scenes and its control: `learn`, and the step of it, `train_scenes`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.pipeline.arguments import checked_seed
from graphkd.scenes.files import load
from graphkd.scenes.lesson import SceneLesson, Shape, known_actions, task_of_actions
from graphkd.scenes.methods import ABOUT, SCENE_METHODS, About
from graphkd.scenes.metrics import scene_graph_metrics
from graphkd.scenes.model import SceneModel, views
from graphkd.scenes.scenes import PARTS, Scenes, check_scenes
from graphkd.spec import plain, resolve, whole
from graphkd.training.loop import Evaluation, History, Schedule, rehearsal, train
from graphkd.training.scoring import measures
from kdlosses.options import check_known
from kdlosses.text_table import table

MethodSpec = str | Mapping[str, Any]

_SCHEDULE = {"lr": 0.005, "weight_decay": 5e-4, "epochs": 100, "patience": 30}
_FEWEST = 5


@dataclass
class SceneOutcome:
    """One trained model, and what it is worth.

    Attributes:
        model: of actions or relations.
        metrics: on the test videos. Of actions the accuracy, or F1 where there are several, of the `local` graph, the
            `global` one and `both`; of relations see `graphkd.scenes.metrics.scene_graph_metrics`.
        val: the score by which the epoch was chosen: the mean of the two graphs, or mean recall.
        oracle_test_best: the best of any epoch on the test videos: what selecting on them would have told.
        seconds: wall-clock time of the training steps.
    """

    model: SceneModel
    metrics: dict[str, float]
    val: float | None
    oracle_test_best: float | None
    seconds: float


@dataclass
class SceneResult:
    """What `learn` returns.

    Attributes:
        student: the model that the method trained.
        outcomes: of `control` and `student`, with models.

    `print(result)` shows both as a table.
    """

    student: SceneModel
    outcomes: dict[str, SceneOutcome]

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """By role, see `SceneOutcome.metrics`."""
        return {role: each.metrics for role, each in self.outcomes.items()}

    def __repr__(self) -> str:
        return table(self.metrics)


def learn(
    scenes: Scenes | str | Mapping[str, Any],
    method: MethodSpec = "glidn",
    *,
    schedule: Mapping[str, Any] | None = None,
    k: int = 20,
    seed: int = 0,
) -> SceneResult:
    """Train a method on scenes, and beside it a control: the same network without the method's idea.

    Args:
        scenes: `Scenes`, or a name or `dict(type=name, **options)` for `graphkd.scenes.load`.
        method: of `SCENE_METHODS` by name or as `dict(type=name, **options)`: `glidn` tells actions, `login` relations.
        schedule: options of `Schedule`; a step takes `batch_size` videos.
        k: K of Recall@K, of relations.
        seed: of the parts, if the scenes have none, of the parameters and of whatever is drawn.

    Raises:
        ValueError: a number is out of range, there is nothing to learn from, or a video lacks a human or an object;
            before anything is trained.
        KeyError: unknown scenes or method; names the nearest.
        TypeError: no such option, or what is given are no scenes.

    >>> result = learn(dict(type="passes", videos=20, frames=4), "login", schedule=dict(epochs=2))
    >>> sorted(result.outcomes), sorted(result.metrics["student"])
    (['control', 'student'], ['brc', 'mean_recall', 'recall'])
    """
    seed = checked_seed(seed)
    if isinstance(scenes, str | Mapping):
        scenes = load(scenes, seed)
    check(scenes, method, schedule, k, seed)
    outcomes = {
        "control": train_scenes(scenes, control_of(method), schedule=schedule, k=k, seed=seed),
        "student": train_scenes(scenes, method, schedule=schedule, k=k, seed=seed),
    }
    return SceneResult(outcomes["student"].model, outcomes)


def check(scenes: Scenes, method: MethodSpec, schedule: Mapping[str, Any] | None, k: int, seed: int) -> None:
    """Raise what the first step of a method, or of its control, would raise."""
    for each in (method, control_of(method)):
        with rehearsal():
            train_scenes(scenes, each, schedule=schedule, k=k, seed=seed)


def about(method: MethodSpec) -> tuple[Callable[..., Any], dict[str, Any], About]:
    """A method, its options and what is said of it; raise for one that is unknown, and for options that it has not."""
    if not isinstance(method, str | Mapping):
        raise TypeError(f"a method is a name or dict(type=name, **options), got {method!r}")
    function, options = resolve("method", plain(method), SCENE_METHODS)
    if function not in ABOUT:
        raise TypeError(f"{method!r} is no method for scenes: register it with graphkd.scenes.scene_method")
    return function, options, ABOUT[function]


def control_of(method: MethodSpec) -> dict[str, Any]:
    """A method without its idea, else with the same options."""
    function, options, told = about(method)
    return {"type": function.__name__, **options, **told.without}


def train_scenes(
    scenes: Scenes,
    method: MethodSpec = "glidn",
    *,
    schedule: Mapping[str, Any] | None = None,
    k: int = 20,
    seed: int = 0,
) -> SceneOutcome:
    """Train one method, see `learn` for the arguments."""
    check_scenes(scenes)
    seed, k = checked_seed(seed), whole("k", k, 1)
    function, options, told = about(method)
    steps = parse_schedule(schedule)
    parts = divided(scenes, told.task, seed)
    shape = Shape.of(scenes, told.task)
    answers = {"actions": scenes.action_names, "relations": scenes.predicate_names}[told.task]
    score = functools.partial({"actions": _actions, "relations": _relations}[told.task], k=k)

    def loop(network: nn.Module, loss: Callable[[Tensor | slice], Tensor]) -> History:
        def evaluate() -> Evaluation:
            val, loss_of_val = score(network, parts["val"])
            return (_selecting(val), -loss_of_val), _selecting(score(network, parts["test"])[0])

        generator = torch.Generator().manual_seed(seed)
        count = parts["train"].videos
        return train(network, loss, count, schedule=steps, evaluate=evaluate, generator=generator)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, history = function(SceneLesson(parts["train"], shape, loop), **options)
    names = answers or tuple(map(str, range(shape.answers)))
    several = told.task == "actions" and task_of_actions(scenes).name == "multi-label"
    model = SceneModel(function.__name__, network, shape, names, several)
    metrics = score(network, parts["test"])[0]
    return SceneOutcome(model, metrics, history.score, history.oracle, sum(history.seconds))


def parse_schedule(schedule: Mapping[str, Any] | None) -> Schedule:
    """The schedule; raise for what is wrong with it."""
    if not isinstance(schedule, Mapping | None):
        raise TypeError(f"schedule is a dict of options, got {schedule!r}")
    check_known("schedule", schedule or {}, [each.name for each in fields(Schedule)])
    return Schedule(**{**_SCHEDULE, **plain(dict(schedule or {}))})


def divided(scenes: Scenes, task: str, seed: int) -> dict[str, Scenes]:
    """The videos to learn from, to choose the epoch by and to test; raise ValueError where there are none.

    If the scenes do not say, three fifths of the videos whose answer is known are learned from, with all of the others,
    and a fifth each serves the rest.
    """
    known = _known(scenes, task)
    numbers = scenes.parts
    if numbers is None:
        ids = known.nonzero().flatten()
        if len(ids) < _FEWEST:
            raise ValueError(
                f"{len(ids)} videos with {task}: take {_FEWEST} or more, or say in parts which are to learn from"
            )
        numbers = torch.zeros(scenes.videos, dtype=torch.long)
        fifth = max(1, len(ids) // 5)
        order = ids[torch.randperm(len(ids), generator=torch.Generator().manual_seed(seed))]
        numbers[order[:fifth]], numbers[order[fifth : 2 * fifth]] = 1, 2
    for number, name in enumerate(PARTS):
        if not (known & (numbers == number)).any():
            raise ValueError(f"no video of the part {name!r} has {task} that are known")
    return {
        name: scenes.take(((numbers == number) & (known | (number == 0))).nonzero().flatten())
        for number, name in enumerate(PARTS)
    }


def _known(scenes: Scenes, task: str) -> Tensor:
    """Of which videos the answer is known; raise ValueError if they are not of this task."""
    if task == "relations":
        if scenes.relations is None:
            raise ValueError("the scenes have no relations, which this method learns: add the array, or take 'glidn'")
        return torch.bincount(scenes.video[scenes.relations[:, 0]], minlength=scenes.videos) > 0
    if scenes.actions is None:
        raise ValueError("the scenes have no actions, which this method learns: add the array, or take 'login'")
    human = scenes.labels == scenes.human
    for rows, what in ((human, f"a human, class {scenes.human}"), (~human, "an object")):
        without = torch.bincount(scenes.video[rows], minlength=scenes.videos) == 0
        if without.any():
            raise ValueError(
                f"video {int(without.int().argmax())} is without {what}, as are {int(without.sum()) - 1} others: leave "
                "it out, or say which class is a human's as human="
            )
    if scenes.num_actions < 2 and scenes.actions.ndim == 1:
        raise ValueError("all videos have one action: there is nothing to tell apart")
    return known_actions(scenes)


@torch.inference_mode()
def _actions(network: nn.Module, scenes: Scenes, k: int) -> tuple[dict[str, float], float]:
    """The score of each graph and of both, and the mean loss of the two graphs."""
    assert scenes.actions is not None
    known, task = known_actions(scenes), task_of_actions(scenes)
    truth = scenes.actions[known]
    measure = measures(None, task.name, scenes.num_actions)[0]
    logits = {view: each[known] for view, each in views(network, scenes).items()}
    loss = sum(float(task.hard(each, truth)) for view, each in logits.items() if view != "both")
    return {view: measure(each, truth) for view, each in logits.items()}, loss


@torch.inference_mode()
def _relations(network: nn.Module, scenes: Scenes, k: int) -> tuple[dict[str, float], float]:
    logits = network(scenes)
    return scene_graph_metrics(scenes, logits, k), float(F.cross_entropy(logits, scenes.pair_targets))


def _selecting(found: Mapping[str, float]) -> float:
    """What the epoch is chosen by."""
    return found["mean_recall"] if "mean_recall" in found else (found["local"] + found["global"]) / 2

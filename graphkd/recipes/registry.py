"""The registry of recipes: their names and what each declares."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from graphkd.data.positions import Inputs
from graphkd.data.setting import Setting
from graphkd.networks.mlp import MLP
from graphkd.spec import resolve
from graphkd.training.lesson import check_lam
from graphkd.training.parallel import processes
from graphkd.training.task import task_of
from graphkd.training.term import check_entry
from kdlosses.discover import check_free
from kdlosses.space import Dimension

R = TypeVar("R", bound=Callable[..., Any])

RECIPES: dict[str, Callable[..., Any]] = {}
"""Every recipe by its name."""
OF_GRAPH_NETWORKS: dict[str, Callable[..., Any]] = {}
"""The recipes whose student may itself be a graph network: they call the model through `Lesson.outputs`."""
EXTRAS: dict[str, tuple[str, ...]] = {}
"""What a recipe needs of its teacher beyond logits and hidden layers, by the names of `graphkd.train_teacher`."""
NETWORKS: dict[str, Callable[..., Any]] = {}
"""The network that a recipe trains, where that is not an `MLP`; built with the same arguments."""
INPUTS: dict[str, Callable[..., Inputs]] = {}
"""What makes the features of a recipe's students, where they are not the graph's own; its options are those of the
recipe's option `inputs`."""
TASKS_OF: dict[str, tuple[str, ...]] = {}
"""The tasks of a recipe by the names of `graphkd.training.task.TASKS`; one that stands around another has its tasks."""
ASKS: set[str] = set()
"""The recipes that ask the teacher itself, about changed features or layers, see `Lesson.live_teacher`."""
EDGE_READERS: set[str] = set()
"""The recipes that read the edges of the graph; all count every edge the same."""

SPACES: dict[str, Mapping[str, Dimension]] = {}
"""What `graphkd.tune` searches of a recipe, beside `lam` and `tau`."""

HANDS_ON = {
    *("adagmlp", "dho", "dual_head", "m2m", "pruned", "quant_distill", "random_teacher", "rounded", "simmlp"),
    *("kd3", "lelp", "talking", "tined", "weight_align"),
}
"""The recipes that read or change the parameters of their student themselves: they run on the CPU."""
ONE_PROCESS = {"hard", "tgeo"}
"""The recipes with an optimiser of their own, which would go another way in each of several processes."""


def recipe(
    *,
    extras: Collection[str] = (),
    network: Callable[..., Any] | None = None,
    inputs: Callable[..., Inputs] | None = None,
    reads_edges: bool = False,
    graph_networks: bool = False,
    asks: bool = False,
    tasks: Collection[str] = ("single-label",),
    space: Mapping[str, Dimension] = MappingProxyType({}),
) -> Callable[[R], R]:
    """Register a recipe under the name of its function, `recipe(model, lesson, *, options) -> History`.

    Args:
        extras: what it needs of its teacher beyond logits and hidden layers, by the names of `graphkd.train_teacher`;
            it gets these by `lesson.extra(name)`.
        network: what it trains, where that is not an `MLP`; built with the same arguments.
        inputs: what makes the features of its students from a setting and a seed, where they are not the graph's own.
            Its options are those of the recipe's option `inputs`.
        reads_edges: whether it reads the edges of the graph. It counts all edges the same, so that a graph with weights
            is refused.
        graph_networks: whether its student may itself be a graph network: it calls the model by `lesson.outputs` alone.
        asks: whether it asks the teacher itself, about changed features or layers: `lesson.live_teacher(name)`.
        tasks: what it may teach, by the names of `graphkd.training.task.TASKS`: it takes its losses on labels and on
            the teacher's outputs from `lesson.task`.
        space: what `graphkd.tune` searches of its options, beside `lam` and `tau`: ranges or lists of choices.

    Raises:
        ValueError: the name is taken.

    >>> @recipe(reads_edges=True)
    ... def smooth(model, lesson, *, lam=0.5): ...
    >>> RECIPES.pop("smooth") is smooth and "smooth" in EDGE_READERS
    True
    >>> EDGE_READERS.remove("smooth"), TASKS_OF.pop("smooth")
    (None, ('single-label',))
    """

    def register(function: R) -> R:
        name = function.__name__
        check_free("recipe", name, RECIPES)
        RECIPES[name] = function
        if extras:
            EXTRAS[name] = tuple(extras)
        if network is not None:
            NETWORKS[name] = network
        if inputs is not None:
            INPUTS[name] = inputs
        if reads_edges:
            EDGE_READERS.add(name)
        if asks:
            ASKS.add(name)
        TASKS_OF[name] = tuple(task_of(task).name for task in tasks)
        if space:
            SPACES[name] = space
        if graph_networks:
            OF_GRAPH_NETWORKS[name] = function
        return function

    return register


def nested(method: str | Mapping[str, Any] | Callable[..., Any]) -> Iterator[str]:
    """Names of a recipe and of the recipes that it wraps, outermost first.

    >>> list(nested(dict(type="mixup", method=dict(type="glnn", lam=0.5))))
    ['mixup', 'glnn']
    """
    inner = method.get("type") if isinstance(method, Mapping) else method
    while isinstance(inner, partial):
        inner = inner.func
    yield getattr(inner, "__name__", type(inner).__name__) if callable(inner) else str(inner)
    if isinstance(method, Mapping) and "method" in method:
        yield from nested(method["method"])


def check_method(method: str | Mapping[str, Any] | Callable[..., Any]) -> None:
    """Check a method, the methods that it wraps and their losses before a teacher is trained.

    >>> check_method(dict(type="terms", distills=[dict(loss="kll")]))
    Traceback (most recent call last):
    KeyError: "no loss is called 'kll'; did you mean 'kl' or 'rkl' or 'lelp'?"
    """
    recipe, options = resolve("method", method, RECIPES)
    if "lam" in options:
        check_lam(recipe.__name__, options["lam"])
    if "distills" in options:
        if not isinstance(options["distills"], list | tuple):
            raise TypeError(f"method {recipe.__name__!r}: distills is a list of entries, got {options['distills']!r}")
        for entry in options["distills"]:
            check_entry(entry)
    if options.get("loss") is not None:
        check_entry({"loss": options["loss"]})
    if options.get("method") is not None:
        check_method(options["method"])


def check_run(method: str | Mapping[str, Any] | Callable[..., Any], device: torch.device, amp: bool = False) -> None:
    """Raise ValueError if a method cannot be run on a device, or in as many processes as there are.

    >>> check_run(dict(type="mixup", method="tined"), torch.device("cuda"))
    Traceback (most recent call last):
    ValueError: the method 'tined' works on the parameters of its student and runs on the CPU, not on 'cuda'
    """
    for name in nested(method):
        if name in HANDS_ON and device.type != "cpu":
            raise ValueError(
                f"the method {name!r} works on the parameters of its student and runs on the CPU, not on '{device}'"
            )
        network = NETWORKS.get(name, MLP)
        if amp and not (isinstance(network, type) and issubclass(network, MLP)):
            raise ValueError(f"the method {name!r} trains a network of its own, which amp does not reach: leave it out")
        if name in ONE_PROCESS and processes()[1] > 1:
            raise ValueError(
                f"the method {name!r} has an optimiser of its own, which {processes()[1]} processes cannot share: run "
                "it in one"
            )


def check_task(method: str | Mapping[str, Any] | Callable[..., Any], task: str, plain: bool = True) -> None:
    """Raise ValueError unless a method, and those that it wraps, can teach a task; nothing is known of one's own.

    Args:
        method: name, dict or function.
        task: see `graphkd.training.task.TASKS`.
        plain: whether the graph has one kind of nodes, which are what is predicted, so that it has edges to be read.

    >>> check_task("krd", "multi-label")
    Traceback (most recent call last):
    ValueError: the method 'krd' is for single-label targets, these are multi-label; choose glnn, supervised or terms
    """
    names = list(nested(method))
    for name in names:
        able = [each for each in sorted(RECIPES) if task in TASKS_OF[each] and (plain or each not in EDGE_READERS)]
        instead = f"choose {', '.join(able[:-1])} or {able[-1]}" if len(able) < 9 else "choose another, such as 'glnn'"
        if name in RECIPES and task not in TASKS_OF[name]:
            has = " and ".join(TASKS_OF[name])
            raise ValueError(f"the method {name!r} is for {has} targets, these are {task}; {instead}")
        if not plain and (name in EDGE_READERS or name in INPUTS):
            raise ValueError(
                f"the method {name!r} reads edges between what is predicted, of which there are none here; {instead}"
            )
    if task != "single-label" and isinstance(method, Mapping):
        for entry in method.get("distills", ()):
            check_entry(entry, task)


def extras_of(method: str | Mapping[str, Any] | Callable[..., Any]) -> set[str]:
    """All extra outputs that a method needs of its teacher, see `EXTRAS`."""
    return {what for name in nested(method) for what in EXTRAS.get(name, ())}


def asks(method: str | Mapping[str, Any] | Callable[..., Any]) -> bool:
    """Whether a method, or one that it wraps, may ask the teacher itself: it is in `ASKS`, or one's own."""
    return any(name in ASKS or name not in RECIPES for name in nested(method))


def network_of(method: str | Mapping[str, Any] | Callable[..., Any]) -> Callable[..., Any]:
    """The network that a method trains: that of the innermost recipe that defines one."""
    return next((NETWORKS[name] for name in reversed(list(nested(method))) if name in NETWORKS), MLP)


def inputs_of(method: str | Mapping[str, Any] | Callable[..., Any]) -> Callable[[Setting, int], Inputs]:
    """The function that makes the features of a method's students from a setting and a seed, see `INPUTS`.

    >>> inputs_of(dict(type="nosmog", inputs=dict(lenght=16)))
    Traceback (most recent call last):
    TypeError: input 'nosmog' has no option 'lenght'; did you mean 'length'?
    """
    *_, name = nested(method)
    if name not in INPUTS:
        return own_features
    while isinstance(method, Mapping) and "method" in method:
        method = method["method"]
    options = method.get("inputs") if isinstance(method, Mapping) else None
    make, options = resolve("input", {"type": name, **(options or {})}, INPUTS)
    return partial(make, **options)


def own_features(setting: Setting, seed: int) -> Inputs:
    """The features of the graph, unchanged."""
    return Inputs(setting.seen.x, setting.whole.x, setting.whole.x)

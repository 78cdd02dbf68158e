"""Change a teacher's labels: a shard of the training nodes, some classes, another task, or tolerant numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from graphkd.data.setting import Setting
from kdlosses.soft_targets import SoftTargets


def restrict(
    setting: Setting,
    shard: Sequence[int] | None = None,
    known: Sequence[int] | None = None,
    task: Sequence[int] | None = None,
    soft: float | None = None,
    seed: int = 0,
) -> Setting:
    """Restrict a setting to the labels or the task of one teacher.

    Args:
        setting: the full setting.
        shard: `(i, k)`: the training nodes are dealt out to k teachers, this is number i from 0; no two share one.
        known: the classes whose labels it sees; it keeps an output for each class of the graph.
        task: for each class of the graph the class of the teacher's own task, -1 where it has no label. It is then
            measured on its own task.
        soft: of numbers, the share of the variance that its targets keep, see `kdlosses.soft_targets.SoftTargets`,
            whose axes are those of its training nodes: it is a tolerant teacher. It is measured on the true numbers.
        seed: deals out the shards; the same for all teachers.

    Raises:
        ValueError: an option names what does not exist, or nothing is left to train on or to select on.

    >>> from graphkd.data import cpf_split, digits, make_setting
    >>> graph = digits()
    >>> odd = restrict(make_setting(graph, cpf_split(graph.y, 0), "tran", 0), task=[0, 1] * 5)
    >>> odd.seen.num_classes, odd.seen.y[odd.train].unique().tolist()
    (2, [0, 1])
    """
    classes = setting.whole.num_classes
    if (known is not None or task is not None) and setting.whole.task != "single-label":
        raise ValueError(f"known and task choose among classes, the targets are {setting.whole.task}; use shard alone")
    if soft is not None and setting.whole.task != "regression":
        raise ValueError(f"soft makes numbers tolerant, the targets are {setting.whole.task}: leave it out")
    train, val, test, unseen = setting.train, setting.val, setting.test, setting.unseen
    seen, whole = setting.seen, setting.whole
    if shard is not None:
        place, count = _pair(shard, len(train))
        train = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))[place::count]]
    if known is not None and task is not None:
        raise ValueError("pass known classes or a task to a teacher, not both")
    if known is not None:
        told = torch.zeros(classes, dtype=torch.bool)
        told[_classes("known", known, 0, classes)] = True
        train, val = train[told[seen.y[train]]], val[told[seen.y[val]]]
    if task is not None:
        own = _classes("task", task, -1, None)
        if len(own) != classes or own.max() < 1:
            raise ValueError(f"task must map the {classes} classes to two classes or more, or -1; got {list(task)}")
        name = torch.cat([own, torch.tensor([-1])])  # the last for nodes without a label
        seen, whole = (
            replace(graph, y=name[graph.y], num_classes=int(own.max()) + 1) for graph in (setting.seen, setting.whole)
        )
        train, val = train[seen.y[train] >= 0], val[seen.y[val] >= 0]
        test, unseen = test[whole.y[test] >= 0], unseen[whole.y[unseen] >= 0]
    if soft is not None:
        seen = replace(seen, y=SoftTargets(seen.y[train], soft)(seen.y))
    for what, nodes in (("train on", train), ("select on", val)):
        if not len(nodes):
            raise ValueError(f"a teacher with shard={shard}, known={known}, task={task} has no node to {what}")
    return replace(setting, seen=seen, whole=whole, train=train, val=val, test=test, unseen=unseen)


def _pair(shard: Sequence[int], nodes: int) -> tuple[int, int]:
    if len(shard) != 2 or not 0 <= shard[0] < shard[1] <= nodes:
        raise ValueError(f"shard is (i, k), part i from 0 of k parts of {nodes} training nodes, got {tuple(shard)}")
    return shard[0], shard[1]


def _classes(what: str, classes: Sequence[int], least: int, count: int | None) -> torch.Tensor:
    found = torch.as_tensor(classes)
    if found.ndim != 1 or found.is_floating_point() or not len(found):
        raise ValueError(f"{what} is a list of class numbers, got {classes!r}")
    if found.min() < least or (count is not None and found.max() >= count):
        raise ValueError(f"{what} names class numbers {list(classes)}; the graph has 0 to {count and count - 1}")
    return found

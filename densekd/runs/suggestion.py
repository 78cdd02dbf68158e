"""Try every method on a student and its teacher: which fit, with which taps and weights, at what cost."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from densekd.hub.ready import is_ready_made
from densekd.methods import METHODS, ONLINE
from densekd.mmlab.building import build_model, build_teacher
from densekd.mmlab.distiller import Distiller, total
from densekd.term import Term


class Entry(NamedTuple):
    """One entry of a method.

    Attributes:
        name: of the entry.
        taps: of the student and of the teachers.
        published: its weight by the method.
        measured: its weight by its gradient, see `kdlosses.auto_weight`; None where it is not known, or not wanted.
    """

    name: str
    taps: str
    published: float
    measured: float | None


class Suggestion(NamedTuple):
    """What is known of one method.

    Attributes:
        method: its name.
        entries: what it compares; nothing if it does not fit.
        step: time of a step over that of the student alone, in the median.
        reason: why it does not fit; empty if it does.
    """

    method: str
    entries: list[Entry]
    step: float | None
    reason: str


def suggest(config: Config, teacher: Any, checkpoint: str | None = None, batches: int = 5) -> Iterator[Suggestion]:
    """Try the methods, one after the other, on the same batches of the student's training data.

    Nothing that is tried is kept: each method starts from the student's own initial weights. Methods whose teachers
    learn are left out, as they need more than a pair.

    Args:
        config: of the student, with training data.
        teacher: as `densekd.Distiller` takes it.
        checkpoint: its weights, the `load_from` of its config if not given; without them no weight is measured, as an
            untrained teacher has none that mean anything, unless others trained it.
        batches: how many are tried.

    Raises:
        ValueError: the config has no training data, or its loader yields none.
        ValueError, FileNotFoundError, KeyError: the teacher cannot be built, or its weights do not fit.
    """
    if not config.get("train_dataloader"):
        raise ValueError(f"config {config.filename} has no train_dataloader: there is nothing to try the methods on")
    ready = is_ready_made(teacher)
    with DefaultScope.overwrite_default_scope(config.get("default_scope")):
        if teacher != "ema" and not ready:
            checkpoint = checkpoint or build_model(copy.deepcopy(teacher))[1]
        trained = checkpoint not in (None, "random") or ready
        given: dict[str, Any] = {"checkpoint": checkpoint or (None if ready else "random")}
        if teacher != "ema":
            build_teacher("teacher", copy.deepcopy(teacher), **given)  # what is wrong with it is wrong for all methods
        torch.manual_seed(0)
        loader = Runner.build_dataloader(copy.deepcopy(config.train_dataloader), seed=0)
        seen = list(islice(loader, batches))
        if not seen:
            raise ValueError(f"the train_dataloader of {config.filename} yields no batch: lower its batch_size")
        torch.manual_seed(0)
        student = build_model(copy.deepcopy(config.model))[0]
        alone = _seconds(copy.deepcopy(student), seen)
        for method in sorted(METHODS.keys() - ONLINE):
            torch.manual_seed(0)
            try:
                own = Distiller(student=copy.deepcopy(student), teacher=copy.deepcopy(teacher), method=method, **given)
                published = {term.name: term.weight for term in own._terms()}
                steps = _seconds(own, seen)  # measuring weights costs more, in the first steps alone
                del own
                auto: Any = Distiller(
                    student=copy.deepcopy(student),
                    teacher=copy.deepcopy(teacher),
                    method=method,
                    balance="auto",
                    **given,
                )
                _seconds(auto, seen)
            except Exception as error:  # whatever a method, or a network it does not fit, raises
                yield Suggestion(method, [], None, f"{type(error).__name__}: {error}".splitlines()[0])
                continue
            entries = [_entry(term, published[term.name], trained) for term in auto._terms()]
            yield Suggestion(method, entries, steps / alone, "")


def _entry(term: Term, published: float, trained: bool) -> Entry:
    teachers = ", ".join(dict.fromkeys(term.teachers))
    taps = term.student if teachers == term.student else f"{term.student} <- {teachers}"
    known = trained and term.auto is not None and not term.auto.ratios.isnan().all()
    return Entry(term.name, taps, published, term.auto.weight.item() if known and term.auto is not None else None)


def _seconds(model: nn.Module, batches: list[Any]) -> float:
    """Median time of forward and backward, after one step that does not count."""
    found: list[float] = []
    model.train()
    learner: Any = model
    for batch in [batches[0], *batches]:
        data = learner.data_preprocessor(copy.deepcopy(batch), training=True)
        learner.zero_grad()
        start = time.perf_counter()
        total(learner(**data, mode="loss")).backward()
        found.append(time.perf_counter() - start)
    return statistics.median(found[1:])

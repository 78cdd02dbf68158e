"""Train a student, plain and distilled, for those who have no training loop."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from densekd.methods import Method
from densekd.plain.batches import Data, first, inputs, labels_of, loader, moved
from densekd.plain.distillation import Convert, Distillation, check_student
from densekd.plain.outcome import Outcome, Result
from densekd.plain.running import PlainRun
from densekd.plain.schedule import rate
from densekd.plain.scores import check_labels, check_split, logits_of, measured, task_loss
from densekd.policies import build_policies
from densekd.taps.reader import at_rest
from densekd.wiring import check_task_weight


def fit(
    student: nn.Module | Callable[[], nn.Module],
    teacher: nn.Module | str | Mapping[str, nn.Module | str] | None = None,
    *,
    train: Data,
    val: Data,
    test: Data | None = None,
    distills: Sequence[Mapping[str, Any]] | None = None,
    method: Method | None = None,
    balance: str | Mapping[str, Any] | None = None,
    policies: Sequence[Any] = (),
    task_weight: float = 1.0,
    control: bool = True,
    convert: Convert | Mapping[str, Convert] | None = None,
    epochs: int = 20,
    batch_size: int = 8,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    seed: int = 0,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    metric: Callable[[nn.Module, DataLoader], float] | None = None,
    ignore_index: int = 255,
    device: str | torch.device | None = None,
    amp: bool | None = None,
    log: Callable[[str], None] = print,
) -> Result:
    """Train a student twice under one schedule: by its labels alone, the control, and beside its teacher.

    AdamW; the learning rate rises over the first twentieth of the steps and falls to 0 as a cosine. The epoch is chosen
    on the validation data. Both runs start from the same weights and see the same batches.

    Args:
        student: the model, which is not changed, or a function that makes one, called under the seed.
        teacher: see `densekd.Distillation`; without one the student alone is trained.
        train: a data set of pairs (input, label), or of dicts with `labels` and keywords of the model; or a
            `DataLoader` of batches of them.
        val: likewise, to choose the epoch.
        test: likewise, for the metrics that are reported.
        distills: see `densekd.Distillation`.
        method: likewise.
        balance: likewise.
        policies: what changes the data, the weights or the student, see `densekd.policies`: names, dicts with a name as
            `type` and options, or policies. The control has those that need no teacher.
        task_weight: factor of the task's loss beside a teacher; at 0 the teacher alone teaches.
        control: whether to train the control.
        convert: see `densekd.Distillation`.
        epochs: passes over the training data.
        batch_size: of data sets.
        lr: largest learning rate.
        weight_decay: of AdamW.
        seed: of the student's weights where a function makes it, and of the order of the data.
        loss: function of output and labels; cross-entropy at the size of the labels if not given.
        metric: function of a model and batches, the larger the better; if not given mIoU where labels are maps, with
            the bIoU of pixels near edges beside it, which chooses nothing; else accuracy.
        ignore_index: label that does not count.
        device: the GPU if there is one, if not given.
        amp: mixed precision; on a GPU if not given.
        log: takes a line for each epoch.

    Raises:
        TypeError, ValueError, KeyError: wrong arguments, see `densekd.Distillation` and the policies; before training
            starts.
        FloatingPointError: the loss is no longer finite.

    Example:
        >>> data = [(torch.full((3, 8, 8), k / 3.0), torch.full((8, 8), k)) for k in range(3)]
        >>> def net():
        ...     return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
        >>> entries = [dict(loss="kl", student="2")]
        >>> result = fit(net, net(), train=data, val=data, distills=entries, epochs=1, device="cpu", log=str)
        >>> list(result.metrics), list(result.metrics["student"])
        (['teacher', 'control', 'student'], ['val mIoU', 'val bIoU'])
    """
    if teacher is None and (distills is not None or method is not None):
        raise ValueError("distills and method need a teacher: give teacher=...")
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise ValueError(f"epochs must be an integer of at least 1, got {epochs!r}")
    check_task_weight(task_weight)
    for policy in build_policies(policies):
        if policy.taught and teacher is None:
            raise ValueError(f"policy {policy.name!r} needs a teacher: give teacher=...")
    if not callable(student):
        raise TypeError(f"the student must be a torch.nn.Module, or a function that returns one, got {student!r}")
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    splits = {"val": loader(val, batch_size), **({} if test is None else {"test": loader(test, batch_size)})}
    by_maps = labels_of(first(splits["val"])).ndim == 3
    name = getattr(metric, "__name__", "metric") if metric else "mIoU" if by_maps else "accuracy"
    criterion = loss or (lambda output, labels: task_loss(output, labels, ignore_index))
    mixed = where.type == "cuda" if amp is None else amp
    half = torch.bfloat16 if where.type == "cpu" or torch.cuda.is_bf16_supported() else torch.float16
    options: dict[str, Any] = dict(
        distills=distills, method=method, convert=convert, ignore_index=ignore_index, balance=balance
    )

    own = train.generator if isinstance(train, DataLoader) else None
    order = None if own is None else own.get_state()

    def batches() -> DataLoader:
        torch.manual_seed(seed)
        if own is not None and order is not None:
            own.set_state(order)
        return loader(train, batch_size, torch.Generator().manual_seed(seed))

    def score(model: nn.Module, batches: DataLoader) -> dict[str, float]:
        return {name: metric(model, batches)} if metric else measured(model, batches, ignore_index)

    def metrics(model: nn.Module) -> dict[str, float]:
        model.to(where).eval()
        found: dict[str, float] = {}
        for split, each in splits.items():
            found.update({key if split == "test" else f"val {key}": value for key, value in score(model, each).items()})
        return found

    def ready(guide: Any) -> PlainRun:
        """A run of a student, alone or as a distillation, which has seen a batch and has its policies started."""
        torch.manual_seed(seed)
        model = copy.deepcopy(student) if isinstance(student, nn.Module) else student()
        check_student(model)
        model.to(where)
        batch = moved(first(batches()), where)
        labels, (args, kwargs) = labels_of(batch), inputs(batch)
        with torch.no_grad(), at_rest(model):
            output = model(*args, **kwargs) if loss is None else None
        one = isinstance(output, Tensor) and output.ndim > 1 and output.shape[1] == 1  # the sigmoid of two classes
        learner = model if guide is None else Distillation(model, guide, classes=2 if one else None, **options)
        if isinstance(learner, Distillation):
            check_task_weight(task_weight, learner._terms)
            learner.connect(*args, **kwargs)
            kept = copy.deepcopy(learner.connectors.state_dict())
            with torch.no_grad(), at_rest(learner):  # a loss that lacks something says so before the control is trained
                learner(*args, context=dict(labels=labels, progress=0.0, epoch=0), **kwargs)
            learner.connectors.load_state_dict(kept)
        if loss is None:
            check_labels(output, labels, ignore_index)
        chosen = [each for each in build_policies(policies) if guide is not None or not each.taught]
        factor = 1.0 if guide is None else task_weight
        run = PlainRun(learner, chosen, train, batch_size, epochs, seed, factor, ignore_index, where)
        left.callback(run.leave)
        run.start(batches())
        return run

    def of_val(model: nn.Module) -> Any:
        """What a model yields for the first batch of the validation data."""
        args, kwargs = inputs(moved(first(splits["val"]), where))
        with torch.no_grad(), at_rest(model.to(where)):
            return model(*args, **kwargs)

    def trained(role: str, run: PlainRun) -> Outcome:
        start, learner, model, steps = time.perf_counter(), run.learner, run.student, run.steps
        data = batches() if run.draws is None else run.loader
        optimiser = torch.optim.AdamW(learner.parameters(), lr=lr, weight_decay=weight_decay)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps))
        scaler = torch.amp.GradScaler(where.type, enabled=mixed and half is torch.float16)
        best, weights, chosen = -math.inf, {}, 0
        for epoch in range(epochs):
            learner.train()
            total = 0.0
            for step, batch in enumerate(data, epoch * len(data)):
                batch = moved(batch, where)
                run.before(step, batch)
                (args, kwargs), labels = inputs(batch), labels_of(batch)
                with torch.autocast(where.type, half, enabled=mixed):
                    if isinstance(learner, Distillation):
                        context = dict(labels=labels, progress=step / steps, epoch=epoch)
                        task = lambda output, labels=labels: run.task_weight * criterion(output, labels)  # noqa: E731
                        output, losses = learner(*args, context=context, task=task, **kwargs)
                    else:
                        output, losses = learner(*args, **kwargs), {}
                    value = criterion(output, labels)
                    value = (value if run.task_weight == 1 else run.task_weight * value) + sum(losses.values())
                if not isinstance(value, Tensor) or value.ndim:
                    got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                    raise TypeError(f"loss(output, labels) must return a tensor without axes, got {got}")
                if not torch.isfinite(value):
                    raise FloatingPointError(f"the loss of the {role} is {value.item()} in epoch {epoch + 1}: lower lr")
                optimiser.zero_grad()
                scaler.scale(value).backward()
                scaler.step(optimiser)
                scaler.update()
                schedule.step()
                total += value.item()
            found = score(model.eval(), splits["val"])[name]
            log(f"{role}, epoch {epoch + 1} of {epochs}: loss {total / len(data):.4f}, val {name} {found:.4f}")
            if found > best:
                best, weights, chosen = found, copy.deepcopy(model.state_dict()), epoch + 1
        if not weights:
            raise FloatingPointError(f"the {name} of the {role} was never a number")
        model.load_state_dict(weights)
        for policy in run.policies:
            policy.finish(model)
        return Outcome(model, metrics(model), chosen, time.perf_counter() - start, list(run.policies))

    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), ExitStack() as left:
        runs = {"control": ready(None)} if teacher is None or control else {}
        runs = {"student": runs["control"]} if teacher is None else {**runs, "student": ready(teacher)}
        guides = _measurable(teacher, convert)
        if metric is None:
            found = of_val(runs["student"].student)
            for split, each in splits.items():
                check_split(split, found, each, ignore_index)
            for role in [role for role, model in guides.items() if _classes(of_val(model)) != _classes(found)]:
                log(f"{role}: not measured, its output is no logits of the student's classes")
                del guides[role]
        outcomes = {role: Outcome(model, metrics(model)) for role, model in guides.items()}
        outcomes.update({role: trained(role, run) for role, run in runs.items()})
        chosen = f"val {name}"
        for role in guides if "control" in outcomes else ():
            its, untaught = (outcomes[each].metrics[chosen] for each in (role, "control"))
            if its < untaught:
                log(f"{role}: {chosen} {its:.4f}, the control has {untaught:.4f}: there is little to learn from it")
    return Result(outcomes["student"].model, {role: each.metrics for role, each in outcomes.items()}, outcomes)


def _classes(output: Any) -> int | None:
    """How many classes an output has logits of; None where it has none."""
    try:
        logits = logits_of(output)
    except TypeError:
        return None
    return logits.shape[1] if logits.ndim > 1 else None


def _measurable(teacher: Any, convert: Any) -> dict[str, nn.Module]:
    """Teachers that can be measured on the student's data, by role."""
    if teacher is None or convert is not None:
        return {}
    named = {f"teacher {name}": each for name, each in teacher.items()} if isinstance(teacher, Mapping) else {}
    return {role: each for role, each in (named or {"teacher": teacher}).items() if isinstance(each, nn.Module)}

"""What each registered loss costs against its formula typed straight down: the part `losses` of `benchmark.py`.

Both compute value and gradients on the same tensors, in turn, in one thread. Time is CPU time, which the machine's
other work disturbs least, as the median over rounds of the ratio within a round. Memory is the peak of what PyTorch's
allocator has handed out on top of the tensors given: the same in every run.
"""

from __future__ import annotations

import copy
import inspect
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from measure import Left, Ratio, median_ratio, peak_bytes
from torch import Tensor
from transcriptions import entry, plain_forms

import graphkd.losses  # noqa: F401  registers the losses that need edges
import kdlosses

TIME, MEMORY, PAIRS_MEMORY, GAIN, DIFFERENCE = 1.05, 1.0, 0.25, 1.5, 1e-5
LOGITS = {"nodes": (100_000, 40), "maps": (2, 19, 256, 512)}
FEATURES = {"nodes": (20_000, 256), "maps": (2, 256, 64, 128)}
CLASSES = 19
EDGES = {"nodes": (20_000, 40)}
POINTS, FEW, CHANNELS, MOST = 20_000, 4_000, 32, 12 << 30
"""Losses over pairs of positions are measured at POINTS points. Their plain form, too, if it fits into MOST bytes; else
its peak is that at FEW points times the square of POINTS / FEW. Value and gradient are compared at FEW, in float64, and
where both run at POINTS the value there, in float32."""


class Case(NamedTuple):
    """One loss on tensors of one shape, its state settled, beside its plain form."""

    loss: kdlosses.Loss
    plain: Callable[..., Tensor]
    student: Tensor
    teacher: Tensor
    context: dict[str, Any]

    def difference(self) -> float:
        """Greatest relative difference, in 2-norm, of value and student's gradient in float64."""
        loss, student = copy.deepcopy(self.loss).double(), self.student.detach().double().requires_grad_()
        plain = _plain(self.loss.name, loss)
        double = Case(loss, plain, student, self.teacher.double(), self.context)
        pairs = list(zip(double.step(loss)(), double.step(plain)()))[:2]
        return max(((a - b).norm() / b.norm().clamp_min(1e-12)).item() for a, b in pairs)

    def step(self, loss: Callable[..., Tensor]) -> Callable[[], tuple[Tensor, ...]]:
        """A function that computes the value of `loss` and its gradients."""
        inputs = [self.student, *(parameter for parameter in self.loss.parameters() if parameter.requires_grad)]

        def step() -> tuple[Tensor, ...]:
            value = loss(self.student, self.teacher, **self.context)
            return value.detach(), *torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)

        return step


def measure(only: Sequence[str] = (), rounds: int = 7, compiled: bool = True) -> list[Ratio]:
    """Measure every registered loss, or those in `only`, and print a line for each."""
    keys = measured()
    for key in only:
        if key not in keys:
            raise SystemExit(f"there is no loss {key!r} to measure; {kdlosses.nearest(key, keys)}")
    known = plain_forms()
    missing = [key for key in keys if key not in known]
    if missing:
        print(f"not measured, as their tests have no plain form of them: {', '.join(missing)}")
    chosen = [key for key in keys if key in known and (key in only or not only)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return [
            *_each_position([key for key in chosen if not over_pairs(key)], rounds, compiled),
            *_over_pairs([key for key in chosen if over_pairs(key)]),
        ]
    finally:
        torch.set_num_threads(threads)


def measured() -> list[str]:
    """Keys of all registered losses but policies, which are made of other losses, and those that need maps."""
    dense = {key for key, loss in kdlosses.LOSSES.items() if loss.__module__.startswith("densekd.")}
    return [key for key in sorted({*kdlosses.LOSSES} - dense) if _kind(key) != "policy"]


def over_pairs(key: str) -> bool:
    """Whether the loss holds pairs of positions."""
    return entry(key).over_pairs


def _kind(key: str) -> str:
    return kdlosses.LOSSES[key].__module__.split(".")[1]


def case(key: str, shape: tuple[int, ...]) -> Case:
    """Draw what a loss is measured on.

    >>> kl = case("kl", (50, 4))
    >>> torch.allclose(kl.step(kl.loss)()[0], kl.step(kl.plain)()[0])
    True
    """
    torch.manual_seed(0)
    n, channels, *space = shape
    theirs = {
        "assistive": 3 * channels,
        "crkd": channels // 2,
        "lelp": 64,
        "meal": 3 * channels,
    }.get(key, channels)
    student, teacher = (2 * torch.randn(shape)).requires_grad_(), 2 * torch.randn(n, theirs, *space)
    widths = dict(student_channels=channels, teacher_channels=channels, channels=channels)
    classes = channels if _kind(key) == "logit" else CLASSES
    if key == "lelp":  # a student of four logits a class
        classes, widths["teacher_channels"] = channels // 4, theirs
    loss = kdlosses.build(dict(type=key, **_options(key, n, channels)), **widths, classes=classes)
    labels = torch.randint(min(CLASSES, channels), (n, *space))
    if key == "prokd":
        student = (2 * torch.randn(n, CLASSES, *space)).requires_grad_()
        labels[torch.rand(labels.shape) < 0.5] = -1  # the other domain
    known: dict[str, Any] = dict(labels=labels, progress=0.5, epoch=3, edge_index=torch.randint(n, (2, 5 * n)))
    known |= {f"{side}_logits": 2 * torch.randn(n, classes, *space) for side in ("student", "teacher")}
    context = {name: known[name] for name in loss.requires}
    with torch.no_grad():
        loss(student, teacher, **context)  # what the first batch settles is settled now, and stays
    loss.eval()
    return Case(loss, _plain(key, loss), student, teacher, context)


def _plain(key: str, loss: kdlosses.Loss) -> Callable[..., Tensor]:
    """The plain form of a loss, called as the loss itself, on the loss's own parameters."""
    function = plain_forms()[key]
    names = list(inspect.signature(function).parameters)[2:]

    def plain(student: Tensor, teacher: Tensor, **context: Any) -> Tensor:
        known = {"own": loss.loss, **loss.options, **context}
        return function(student, teacher, **{name: known[name] for name in names if name in known})

    return plain


def _options(key: str, n: int, channels: int) -> dict[str, Any]:
    """Options of losses that cannot be built, or not on so much, without any."""
    sizes = entry(key).sizes
    if sizes is not None:
        return dict(sizes(n, channels))
    if key == "cross_modal_mutual":
        return dict(size=n, k=n // 16)
    if key == "crd":
        return dict(samples=2 * n, negatives=n)
    others: dict[str, dict[str, Any]] = {
        "assistive": dict(truth="first"),
        "comodo": dict(size=n),
        "rkd": dict(angle=0.0),
        "swing": dict(private=(1, 3), noise=0.0),
        "topk_kl": dict(k=min(10, channels // 2)),
        "vq_code_kl": dict(codebook=2 * torch.randn(64, channels, generator=torch.Generator().manual_seed(1))),
    }
    return others.get(key, {})


def _each_position(keys: Sequence[str], rounds: int, compiled: bool) -> list[Ratio]:
    if not keys:
        return []
    columns = "".join(f"{layout + ': time':>13}{'memory':>9}{'compiled':>10}" for layout in LOGITS)
    print(f"\n{'loss':<17}{columns}   ours / plain, eager / compiled; * is not met", flush=True)
    found: list[Ratio] = []
    gains: list[float] = []
    left = Left(len(keys))
    for key in keys:
        kind = _kind(key)
        shapes = LOGITS if kind == "logit" else EDGES if kind == "losses" else FEATURES
        print(f"{key:<17}", end="", flush=True)
        for layout, shape in shapes.items():
            if key == "lelp":
                shape = (shape[0], shape[1] // 4 * 4, *shape[2:])
            here, name = case(key, shape), f"{key} on {layout}"
            ours, plain = here.step(here.loss), here.step(here.plain)
            difference = case(key, (min(shape[0], 500), shape[1], *(16 for _ in shape[2:]))).difference()
            ratio, seconds, reference = median_ratio(ours, plain, rounds, time.process_time)
            detail = f"{1e3 * seconds:.0f} ms against {1e3 * reference:.0f} ms"
            peak, peak_plain = peak_bytes(ours), peak_bytes(plain)
            speed = Ratio(f"time, {name}", ratio, TIME, detail)
            memory = Ratio(f"memory, {name}", peak / peak_plain, MEMORY, _mib(peak, peak_plain))
            same = Ratio(f"difference, {name}", difference, DIFFERENCE, "relative, of value and gradient in float64")
            found += [speed, memory, same]
            shown = ""
            if compiled and kind in ("logit", "feature"):
                try:
                    gains.append(_gain(here, rounds))
                    found.append(Ratio(f"compiled / eager, {name}", 1 / gains[-1], math.inf, ""))
                    shown = f"{gains[-1]:.2f}"
                except Exception as error:
                    found.append(Ratio(f"compiles, {name}", 1.0, 0.0, str(error).splitlines()[0]))
                    shown = "fails*"
            print(
                f"{_cell(speed, 13)}{_cell(memory, 9)}{shown:>10}{'  DIFFERS' if same.missed else ''}",
                end="",
                flush=True,
            )
        print(flush=True)
        left.tell()
    if gains:
        gain = statistics.geometric_mean(gains)
        mark = "" if gain >= GAIN else "*"
        print(f"eager / compiled, geometric mean of {len(gains)}: {gain:.2f}{mark}", flush=True)
        found.append(Ratio("compiled / eager, geometric mean", 1 / gain, 1 / GAIN, f"of {len(gains)}"))
    return found


def _gain(here: Case, rounds: int) -> float:
    """Time of the loss over that of the loss compiled; a graph break is an error."""
    torch._dynamo.reset()
    compiled: Any = torch.compile(here.loss, fullgraph=True)
    ours, fused = here.step(here.loss), here.step(compiled)
    if not torch.allclose(fused()[1], ours()[1], rtol=1e-3, atol=1e-7):
        raise RuntimeError(f"{here.loss.name} computes something else when it is compiled")
    return median_ratio(ours, fused, rounds, time.process_time)[0]


def _over_pairs(keys: Sequence[str]) -> list[Ratio]:
    if not keys:
        return []
    print(f"\n{'loss over pairs':<17}{'memory':>9}   ours / plain at {POINTS} points; * is not met", flush=True)
    found: list[Ratio] = []
    left = Left(len(keys))
    for key in keys:
        few, many = case(key, (FEW, CHANNELS)), case(key, (POINTS, CHANNELS))
        scale, difference = (POINTS / FEW) ** 2, few.difference()
        peak_plain = int(scale * peak_bytes(few.step(few.plain)))
        ours = _Kept(many.step(many.loss))
        peak = peak_bytes(ours, warm=False)
        if peak_plain <= MOST:
            plain = _Kept(many.step(many.plain))
            peak_plain, value = peak_bytes(plain, warm=False), plain.last[0].item()
            how = f"both at {POINTS}: values {ours.last[0].item():.6g} and {value:.6g}"
        else:
            how = f"the plain form would not fit: at {FEW}, times {scale:.0f}"
        memory = Ratio(f"memory, {key} over pairs", peak / peak_plain, PAIRS_MEMORY, f"{_mib(peak, peak_plain)}; {how}")
        same = Ratio(
            f"difference, {key} over pairs", difference, DIFFERENCE, "relative, of value and gradient in float64"
        )
        found += [memory, same]
        print(f"{key:<17}{_cell(memory, 9)}   {memory.detail}{'  DIFFERS' if same.missed else ''}", flush=True)
        left.tell()
    return found


class _Kept:
    """A step that remembers what it returned."""

    def __init__(self, step: Callable[[], tuple[Tensor, ...]]) -> None:
        self.step = step
        self.last: tuple[Tensor, ...] = ()

    def __call__(self) -> None:
        self.last = self.step()


def _cell(ratio: Ratio, width: int) -> str:
    return f"{f'{ratio.value:.2f}' + ('*' if ratio.missed else ' '):>{width}}"


def _mib(ours: int, plain: int) -> str:
    return f"{ours / 2**20:.1f} MiB against {plain / 2**20:.1f} MiB"

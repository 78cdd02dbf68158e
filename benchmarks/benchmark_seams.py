"""What the parts between a network and a loss cost, over what stands inside of them: the part `seams` of
`benchmark.py`.

The other side of each ratio is the same steps written out in torch around the same networks and losses; of a policy
the same steps without it; of masked images the blocks of the network on as many patches as are visible, and the
decoder; of rounds a client's training alone.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from measure import Ratio, median_ratio
from torch import Tensor, nn

import kdlosses
from densekd.hub.features import Features
from densekd.hub.masked import MaskedPretraining
from densekd.hub.rebuilding import patches
from densekd.plain.distillation import Distillation
from densekd.plain.running import PlainRun
from densekd.policies import build_policies
from graphkd import StudentClassifier, cpf_split, federate
from graphkd.data import load
from graphkd.networks.mlp import MLP
from graphkd.recipes.terms import terms
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

BOUND = 1.10
POLICIES: dict[str, Any] = {
    "pruned": dict(type="pruned", keep=0.5),
    "stages": dict(type="stages", parts=[(0.5, 0), (1.0, 1)]),
}
"""Policies whose work is before the training, or a look at the step's number: they must cost a step nothing."""

Step = Callable[[], object]
Row = tuple[str, Step, Step, int]
"""A name, a step with the seam, the same without it, and in how many rounds they are measured."""


def measure(share: float = 1.0) -> Iterator[Ratio]:
    """Heads, the truth as a source, policies of a run, masked images, rounds of clients.

    Args:
        share: of the rounds.
    """
    torch.manual_seed(0)
    for name, one, other, rounds in itertools.chain(on_nodes(), on_pixels(), of_policies(), of_masks(), of_rounds()):
        clock = time.perf_counter if torch.cuda.is_available() else time.process_time
        ratio, mine, plain = median_ratio(one, other, max(1, round(share * rounds)), clock)
        yield Ratio(name, ratio, BOUND, f"{1e3 * mine:.1f} ms, {1e3 * plain:.1f} ms")


def by_hand(trained: nn.Module, loss: Callable[[], Tensor]) -> Step:
    """A step of Adam on a loss."""
    optimiser = torch.optim.Adam(trained.parameters(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()

    return step


def on_nodes() -> Iterator[Row]:
    """A step of the recipe `terms` on the digits graph, with a head on the hidden layer and with the truth."""
    graph = load("digits")
    x, y = graph.x, graph.y
    told, kl = torch.randn(len(x), 10), kdlosses.build("kl")
    student = MLP(64, (256,), 10, 0.5)

    def taught(entry: dict[str, Any]) -> Step:
        kept: list[Any] = []

        def loop(trained: nn.Module, loss: Callable[..., Tensor], nodes: int) -> History:
            kept.extend([trained, lambda: loss(slice(None))])
            return History()

        lesson = Lesson(x, y, loop, torch.Generator().manual_seed(0), teacher=told, edge_index=graph.edge_index)
        terms(MLP(64, (256,), 10, 0.5), lesson, distills=[entry], lam=0.5)
        return by_hand(*kept)

    head = nn.Linear(256, 10)

    def through_head() -> Tensor:
        soft = kl(head(student.outputs(x)[-2]), told)
        return 0.5 * F.cross_entropy(student(x), y) + 0.5 * soft

    truth = F.one_hot(y, 10).float().log().clamp(min=-1e4)

    def from_truth() -> Tensor:
        return 0.5 * F.cross_entropy(student(x), y) + 0.5 * kl(student(x), truth)

    entry = dict(loss="kl", student="hidden", teacher="logits", head="linear")
    yield "a head, on nodes", taught(entry), by_hand(nn.ModuleList([student, head]), through_head), 60
    yield "the truth, on nodes", taught(dict(loss="kl", source="truth")), by_hand(student, from_truth), 60


def convolutions(width: int, classes: int = 11) -> nn.Sequential:
    """A network of three layers and class logits, at the size of its image."""
    layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, classes, 1))


def on_pixels() -> Iterator[Row]:
    """A step of `densekd.Distillation` with a head before the logits and with the truth."""
    images, labels = torch.rand(4, 3, 64, 64), torch.randint(11, (4, 64, 64))
    student, teacher, kl = convolutions(32), convolutions(48).eval().requires_grad_(False), kdlosses.build("kl")

    def taught(*entries: dict[str, Any]) -> Step:
        learner = Distillation(convolutions(32), teacher, entries, example=images, classes=11)

        def loss() -> Tensor:
            output, losses = learner(images, context=dict(labels=labels, progress=0.0, epoch=0))
            return F.cross_entropy(output, labels) + sum(losses.values())

        return by_hand(learner, loss)

    head = nn.Conv2d(32, 11, 1)

    def through_head() -> Tensor:
        with torch.no_grad():
            told = teacher(images)
        feature = student[:6](images)
        return F.cross_entropy(student[6](feature), labels) + kl(head(feature), told)

    def from_truth() -> Tensor:
        with torch.no_grad():
            told = teacher(images)
        output = student(images)
        truth = F.one_hot(labels, 11).movedim(-1, 1).float().log().clamp(min=-1e4)
        return F.cross_entropy(output, labels) + kl(output, told) + kl(output, truth)

    entry = dict(loss="kl", student="5", teacher="6", head="linear")
    yield "a head, on pixels", taught(entry), by_hand(nn.ModuleList([student, head]), through_head), 15
    both = dict(loss="kl", student="6"), dict(loss="kl", student="6", source="truth", name="truth")
    yield "the truth, on pixels", taught(*both), by_hand(student, from_truth), 15


class Drawn(torch.utils.data.Dataset):
    """Images in two domains."""

    def __init__(self) -> None:
        self.images, self.labels = torch.rand(16, 3, 64, 64), torch.randint(11, (16, 64, 64))
        self.domains = [number % 2 for number in range(16)]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return self.images[number], self.labels[number]


def of_policies() -> Iterator[Row]:
    """A step of `densekd.fit`'s run, with a policy and without one."""
    data, teacher = Drawn(), convolutions(32).eval().requires_grad_(False)

    def stepped(*policies: Any) -> Step:
        entry = dict(loss="kl", student="6")
        images, labels = torch.stack([*data.images[:4]]), torch.stack([*data.labels[:4]])
        learner = Distillation(convolutions(32), teacher, [entry], example=images)
        device = torch.device("cpu")
        run = PlainRun(learner, build_policies(policies), data, 4, 1000, 0, 1.0, 255, device)
        run.start(torch.utils.data.DataLoader(data, 4))
        count = itertools.count()

        def loss() -> Tensor:
            step = next(count)
            run.before(step, (images, labels))
            context = dict(labels=labels, progress=step / run.steps, epoch=0)
            output, losses = learner(images, context=context)
            return run.task_weight * F.cross_entropy(output, labels) + sum(losses.values())

        return by_hand(learner, loss)

    for name, policy in POLICIES.items():
        yield f"policy {name}", stepped(policy), stepped(), 15


class Patches(nn.Module):
    """A vision transformer without a class token; of all its patches the first `keep` enter its blocks."""

    def __init__(self, width: int = 96, depth: int = 4, patch: int = 8, side: int = 16) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(0.1 * torch.randn(1, width, side, side))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 6, 4 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(depth)
        )

    def forward(self, images: Tensor, keep: int | None = None) -> Tensor:
        found = self.embed(images) + self.places
        tokens = found.flatten(2).movedim(1, 2)[:, :keep]
        for block in self.blocks:
            tokens = block(tokens)
        return tokens.movedim(1, 2).unflatten(2, (-1, found.shape[3]))


def of_masks() -> Iterator[Row]:
    """A step of masked pre-training with three quarters of the patches hidden."""
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        draw = np.random.default_rng(0)
        paths = [Path(folder) / f"{number}.png" for number in range(4)]
        for path in paths:
            Image.fromarray(draw.integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(path)
        options: dict[str, Any] = dict(steps=1000, batch=8, size=(128, 128), device="cpu", share=0.25)
        training = MaskedPretraining(Features("patches", Patches()), {}, paths, kind="mae", **options)
        pixels = torch.randint(0, 256, (8, 3, 128, 128)).float()
        small, decoder, features = Patches(), training.autoencoder().decoder, training.student
        masks = training._masks(8, 0)

        def written_out() -> Tensor:
            normal = features.data_preprocessor(pixels)
            maps = small(normal, keep=64)  # as many patches as are visible
            whole = F.pad(maps, (0, 0, 0, 12))
            values = decoder(whole, masks)[1]
            target = patches(normal, 8)
            target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + 1e-6).sqrt()
            return (values - target).square().mean(2)[masks.flatten(1)].mean()

        yield (
            "masked images, mae",
            lambda: training._learn(pixels),
            by_hand(nn.ModuleList([small, decoder]), written_out),
            15,
        )


def of_rounds(rounds: int = 8, epochs: int = 30) -> Iterator[Row]:
    """Two clients on digits, as in `configs/federated/digits.py`, against their epochs one student after the other."""
    graph = load("digits")
    split = cpf_split(graph.y, seed=0)
    student = StudentClassifier(hidden=(64,), epochs=epochs)

    def together() -> None:
        federate(graph, "local", clients=2, rounds=rounds, shares=1e3, student=student, split=split)

    sizes = [len(split.train) // 2] * 2

    def alone() -> None:
        for size in sizes:
            nodes = split.train[:size]
            model = StudentClassifier(hidden=(64,), epochs=rounds * epochs, random_state=0)
            model.set_params(method="supervised").fit(graph.x[nodes], graph.y[nodes])

    yield "rounds of two clients", together, alone, 25

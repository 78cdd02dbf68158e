"""The memory term of CIRKD: what goes into the queues, the formula given what is in them, states and precisions."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax
from sklearn.preprocessing import normalize
from torch import Tensor

from densekd.losses import CIRKDMemory
from kdlosses.relation import blocks

CONTRACT = LossContract(
    "cirkd_memory",
    options=dict(pixels=100, regions=10),
    no_fixed_point="a projection that is still to be learned stands between",
)

VOID = 255
CLASSES = 4


def memory(**options: int) -> CIRKDMemory:
    torch.manual_seed(0)
    sizes = dict(pixels=200, regions=20, pixel_draw=800, region_draw=80)
    return CIRKDMemory(3, 5, CLASSES, **{**sizes, **options}).double()


def batch(seed: int = 0, height: int = 6, width: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    rng = np.random.default_rng(seed)
    labels = rng.choice([0, 1, 3, VOID], (2, height, width))  # no class 2
    s, t = rng.normal(size=(2, 3, height, width)), rng.normal(size=(2, 5, height, width))
    return torch.from_numpy(s), torch.from_numpy(t), torch.from_numpy(labels)


def held(queues: torch.nn.Module, c: int) -> np.ndarray:
    items, there = queues.draw(queues.items.shape[1])
    return items[c][there[c]].numpy()


def rows(features: Tensor, labels: Tensor, n: int, c: int) -> np.ndarray:
    """Features of length 1 of the pixels of a class in an image."""
    return normalize(features[n][:, labels[n] == c].T.numpy())


def is_in(one: np.ndarray, many: np.ndarray) -> bool:
    return bool((np.abs(many - one).max(1) < 1e-3).any())  # half precision


def test_pixels_of_a_class_are_filed_under_it() -> None:
    """The trap of the authors' code: there they are arbitrary pixels of the image."""
    loss, (s, t, labels) = memory(taken=3), batch()
    loss(s, t, labels)
    assert len(held(loss.pixels, 2)) == 0
    for c in (0, 1, 3):
        pixels = held(loss.pixels, c)
        assert len(pixels) == sum(min(3, int((labels[n] == c).sum())) for n in range(2))
        of_class = np.concatenate([rows(t, labels, n, c) for n in range(2)])
        assert all(is_in(pixel, of_class) for pixel in pixels)
        assert len(np.unique(pixels, axis=0)) == len(pixels)


def test_any_pixel_may_be_taken() -> None:
    _, t, labels = batch()
    seen = np.zeros(int((labels[0] == 1).sum()), bool)
    loss = memory(taken=2, pixels=1000)
    for _ in range(40):
        loss(torch.zeros(1, 3, 6, 8).double(), t[:1], labels[:1])
    for i, pixel in enumerate(rows(t, labels, 0, 1)):
        seen[i] = is_in(pixel, held(loss.pixels, 1))
    assert len(seen) > 4
    assert seen.all()


def test_regions_are_means_of_a_class_in_an_image() -> None:
    loss, (s, t, labels) = memory(), batch()
    loss(s, t, labels)
    for c in (0, 1, 3):
        expected = normalize([rows(t, labels, n, c).mean(0) for n in range(2)])
        np.testing.assert_allclose(held(loss.regions, c), expected, atol=1e-3)
    assert loss.regions.taken.tolist() == [2, 2, 0, 2]


def test_formula_over_a_run_of_batches() -> None:
    loss = memory()
    for seed in range(3):
        s, t, labels = batch(seed)
        value = loss(s, t, labels).item()
        valid = (labels != VOID).flatten().numpy()
        x, y = (f.movedim(1, -1).flatten(0, -2).numpy()[valid] for f in (s, t))
        hidden = x @ loss.widen.weight.detach().numpy().T
        hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5)
        x = normalize(np.maximum(hidden, 0) @ loss.project.weight.detach().numpy().T)
        expected = 0.0
        for queues in (loss.pixels, loss.regions):
            keys = np.concatenate([held(queues, c) for c in range(CLASSES)])
            a, b = (softmax(f @ keys.T / 0.1, axis=1) for f in (normalize(y), x))
            expected += rel_entr(a, b).sum(1).mean()
        np.testing.assert_allclose(value, expected, rtol=1e-9)


def test_as_many_are_drawn_of_each_class() -> None:
    loss, drawn = memory(pixel_draw=10), []
    draw = loss.pixels.draw
    loss.pixels.draw = lambda number, at_random: drawn.append((number, at_random)) or draw(number, at_random)
    for mode in (True, False):
        loss.train(mode)(*batch())
    assert drawn == [(3, True), (3, False)]


def test_ignored_pixels_do_not_matter() -> None:
    s, t, labels = batch()
    pad = torch.nn.functional.pad
    wide = pad(s, (0, 3), value=9.0), pad(t, (0, 3), value=-3.0), pad(labels, (0, 3), value=VOID)
    one, other = memory(taken=100), memory(taken=100)
    for _ in range(2):
        torch.testing.assert_close(one(s, t, labels), other(*wide))
    for a, b in zip(one.state_dict().values(), other.state_dict().values()):
        torch.testing.assert_close(a, b)


def test_evaluation_leaves_no_trace_and_draws_nothing() -> None:
    loss = memory(pixel_draw=8)
    for seed in range(2):
        loss(*batch(seed))
    before = copy.deepcopy(loss.state_dict())
    loss.eval()
    assert loss(*batch(5)) == loss(*batch(5))
    assert all(torch.equal(a, b) for a, b in zip(before.values(), loss.state_dict().values()))


def test_an_empty_memory_and_nothing_labelled_cost_nothing() -> None:
    s, t, labels = batch()
    s.requires_grad_()
    for loss, y in ((memory().eval(), labels), (memory(), torch.full_like(labels, VOID))):
        value = loss(s, t, y)
        assert value == 0
        assert (torch.autograd.grad(value, s)[0] == 0).all()


def test_a_resumed_run_goes_on_to_the_bit() -> None:
    def step(loss: CIRKDMemory, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return loss(*(x.float() if x.is_floating_point() else x for x in batch(seed)))

    loss = memory(pixel_draw=12, taken=3).float()
    for seed in range(3):
        step(loss, seed)
    resumed = memory(pixel_draw=12, taken=3).float()
    resumed.load_state_dict(loss.state_dict())
    for seed in (3, 4):
        assert step(loss, seed) == step(resumed, seed)


def test_half_precision_inputs() -> None:
    s, t, labels = batch()
    loss = memory().float()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(s.bfloat16().requires_grad_(), t.bfloat16(), labels)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert loss.pixels.items.dtype == torch.float32  # as `memory` made it, by `.float()`
    assert CIRKDMemory(3, 5, CLASSES, pixels=4, regions=4).pixels.items.dtype == torch.float16


def test_a_perfect_projection_costs_nothing() -> None:
    """Where the student comes out of its projection as the teacher, the likenesses are the same."""
    loss = CIRKDMemory(5, 5, CLASSES, pixels=200, regions=20, pixel_draw=800, region_draw=80).double()
    _, t, labels = batch()
    loss.widen = loss.project = torch.nn.Identity()
    loss.norm.forward = lambda rows, weight: rows
    t = t.abs()  # which ReLU leaves as it is
    assert loss(t, t, labels).abs() < 1e-12


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = memory()
    loss(*batch(0))
    loss.eval()
    value = loss(*batch(1))
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    torch.testing.assert_close(loss(*batch(1)), value)

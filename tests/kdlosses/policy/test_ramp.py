from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import kdlosses

TIMES = np.linspace(0, 1, 21)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(shape="cosine"),
        dict(start=1.0, end=0.0),
        dict(start=0.7, end=0.1, over=(0.2, 0.6), shape="cosine"),
    ],
)
def test_the_factor_is_that_of_the_formula(options: dict[str, Any]) -> None:
    s, t = pair()
    plain = kdlosses.kl(s, t).item()
    loss = kdlosses.build(dict(type="ramp", loss="kl", **options))
    factors = [loss(s, t, progress=p).item() / plain for p in TIMES]
    over, start, end = options.get("over", (0.0, 1.0)), options.get("start", 0.0), options.get("end", 1.0)
    u = ((TIMES - over[0]) / (over[1] - over[0])).clip(0, 1)
    g = (1 - np.cos(np.pi * u)) / 2 if "shape" in options else u
    np.testing.assert_allclose(factors, start + g * (end - start), atol=1e-12)
    assert (np.diff(factors) * np.sign(end - start) >= -1e-12).all()


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_both_ends_are_reached_exactly(shape: str) -> None:
    s, t = pair()
    for start, end in [(0.1, 0.7), (0.3, 1.1), (0.9, 1 / 3)]:
        loss = kdlosses.build(dict(type="ramp", loss="mse", start=start, end=end, over=(0.1, 0.8), shape=shape))
        for progress, factor in [(0.0, start), (0.1, start), (0.8, end), (1.0, end)]:
            assert loss(s, t, progress=progress) == factor * kdlosses.mse(s, t)


def test_where_the_factor_is_zero_the_loss_is_not_asked() -> None:
    asked = []

    def loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        asked.append(1)
        return student.sum() * float("nan")

    s, t = (x.requires_grad_() for x in pair())
    up = kdlosses.build(dict(type="ramp", loss=loss, over=(0.25, 1.0)))
    value = up(s, t, progress=0.25)
    value.backward()
    assert value == 0
    assert (s.grad == 0).all()
    assert not asked
    assert [up.active(progress=p) for p in (0.0, 0.25, 0.26, 1.0)] == [False, False, True, True]
    down = kdlosses.build(dict(type="ramp", loss="kl", start=1.0, end=0.0, over=(0.0, 0.5)))
    assert [down.active(progress=p) for p in (0.0, 0.49, 0.5, 1.0)] == [True, True, False, False]


def test_it_is_off_where_the_loss_inside_is() -> None:
    loss = kdlosses.build(dict(type="ramp", loss=dict(type="until", loss="kl", stop=0.5)))
    assert loss.active(progress=0.4)
    assert not loss.active(progress=0.5)


def test_context_reaches_the_loss_inside() -> None:
    s, t = pair()
    weight, labels = torch.tensor([1.0, 2, 0, 1, 1, 3]), torch.tensor([0, 1, 2, 2, 1, 0])
    loss = kdlosses.build(dict(type="ramp", loss="dkd"))
    expected = 0.5 * kdlosses.dkd(s, t, labels=labels, weight=weight)
    torch.testing.assert_close(loss(s, t, progress=0.5, labels=labels, weight=weight), expected)
    taid = kdlosses.build(dict(type="ramp", loss="taid"))  # needs the progress, too
    assert taid(s, t, progress=0.5) > 0


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_it_is_compiled_once_for_the_whole_way(shape: str) -> None:
    torch._dynamo.reset()
    s, t = pair()
    loss = kdlosses.build(dict(type="ramp", loss="kl", over=(0.1, 0.9), shape=shape))
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(recompile_limit=8, fail_on_recompile_limit_hit=True):
        for progress in TIMES.tolist():
            torch.testing.assert_close(compiled(s, t, progress=progress), loss(s, t, progress=progress))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(start=-0.1), "start must be at least 0, got -0.1"),
        (dict(end=float("nan")), "end must be finite, got nan"),
        (dict(over=(0.5, 0.5)), r"a stretch of the training.*got \(0.5, 0.5\)"),
        (dict(over=(0, 20)), "a stretch of the training"),
        (dict(shape="cosin"), "shape must be one of .*got 'cosin'"),
    ],
)
def test_what_makes_no_ramp_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kdlosses.build(dict(type="ramp", loss="kl", **options))

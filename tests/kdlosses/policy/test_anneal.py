from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import kdlosses


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(8, 4, dtype=torch.float64), torch.randn(8, 4, dtype=torch.float64)


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 3.0), (0.25, 2.5), (0.5, 2.0), (0.9, 1.2), (1.0, 1.0)])
def test_the_temperature_falls_from_3_to_1(progress: float, tau: float) -> None:
    s, t = pair()
    for key in ("sinkd", "kl", "dist"):
        loss = kdlosses.build(dict(type="anneal", loss=key))
        torch.testing.assert_close(loss(s, t, progress=progress), kdlosses.build(dict(type=key, tau=tau))(s, t))


def test_the_end_is_reached_exactly_and_other_options_stay() -> None:
    s, t = pair()
    inner = dict(type="sinkd", eps=0.3)
    loss = kdlosses.build(dict(type="anneal", loss=inner, start=0.3, end=0.7, over=(0.1, 0.6), shape="cosine"))
    for progress, tau in [(0.05, 0.3), (0.6, 0.7), (1.0, 0.7)]:
        assert loss(s, t, progress=progress) == kdlosses.sinkd(s, t, tau=tau, eps=0.3)
    middle = kdlosses.sinkd(s, t, tau=0.5, eps=0.3)  # both shapes are halfway there halfway along
    torch.testing.assert_close(loss(s, t, progress=0.35), middle)


def test_any_float_option_moves() -> None:
    s, t = pair()
    labels = torch.arange(8) % 4
    loss = kdlosses.build(dict(type="anneal", loss="dkd", option="beta", start=0.0, end=8.0))
    assert {"labels", "weight", "progress"} <= set(loss.needs)
    assert {"labels", "progress"} == set(loss.requires)
    expected = kdlosses.dkd(s, t, labels=labels, beta=2.0)
    torch.testing.assert_close(loss(s, t, labels=labels, progress=0.25), expected)


def test_a_function_of_ones_own() -> None:
    def scaled(student: torch.Tensor, teacher: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
        return factor * (student - teacher).square().mean()

    s, t = pair()
    loss = kdlosses.build(dict(type="anneal", loss=scaled, option="factor", start=0.0, end=4.0))
    torch.testing.assert_close(loss(s, t, progress=0.5), 2 * kdlosses.mse(s, t))


def test_policies_stand_around_it() -> None:
    s, t = pair()
    loss = kdlosses.build(dict(type="until", loss=dict(type="anneal"), stop=0.6))
    torch.testing.assert_close(loss(s, t, progress=0.5), kdlosses.kl(s, t, tau=2.0))
    assert loss(s, t, progress=0.6) == 0


def test_a_call_leaves_nothing_behind() -> None:
    s, t = pair()
    loss = kdlosses.build("anneal")
    first = loss(s, t, progress=0.0)
    loss(s, t, progress=0.9)
    assert loss(s, t, progress=0.0) == first == copy.deepcopy(loss)(s, t, progress=0.0)


def test_it_is_compiled_for_the_whole_way() -> None:
    torch._dynamo.reset()
    s, t = pair()
    loss = kdlosses.build(dict(type="anneal", over=(0.1, 0.9), shape="cosine"))
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for progress in torch.linspace(0, 1, 21).tolist():
            torch.testing.assert_close(compiled(s, t, progress=progress), loss(s, t, progress=progress))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(option="taux"), TypeError, "loss 'kl' has no option 'taux' that is a float; did you mean 'tau'"),
        (dict(option="weight"), TypeError, "no option 'weight'"),
        (dict(loss="sinkd", option="iterations"), TypeError, "no option 'iterations' that is a float"),
        (dict(loss=dict(type="kl", tau=2.0)), ValueError, "tau of loss 'kl' is set to 2.0; remove that"),
        (dict(loss="taid", option="alpha"), TypeError, "loss 'taid' is a module"),
        (dict(loss="until", option="stop"), TypeError, "loss 'until' is a module"),
        (dict(end=0.0), ValueError, "tau must be positive, got 0.0"),
        (dict(start=-1.0), ValueError, "tau must be positive, got -1.0"),
        (dict(over=(0.9, 0.1)), ValueError, "anneal: over must be a stretch"),
    ],
)
def test_what_cannot_be_annealed_is_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        kdlosses.build(dict(type="anneal", **options))

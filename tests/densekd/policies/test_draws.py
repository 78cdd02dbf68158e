"""The sampler whose weights may change while it draws."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest
import torch
from torch.utils.data import ConcatDataset

from densekd.policies.draws import Draws, domains_of

from .small import Watched, scenes


def test_all_alike_are_a_new_order_in_each_pass() -> None:
    draws = Draws(20, length=20)
    first, second = list(draws), list(draws)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    assert list(Draws(20, length=20)) == first
    assert list(Draws(20, length=20, seed=1)) != first


def test_what_has_no_weight_is_not_drawn_and_the_rest_in_proportion() -> None:
    draws = Draws(4)
    draws.set(torch.tensor([0.0, 1.0, 3.0, 0.0]))
    found = Counter(islice(draws, 4000))
    assert found.keys() == {1, 2}
    assert found[2] / 4000 == pytest.approx(0.75, abs=0.03)


def test_weights_hold_from_their_position_on_however_far_a_loader_reads_ahead() -> None:
    draws = Draws(6)
    draws.set(torch.tensor([1.0, 1, 0, 0, 0, 0]), at=0)
    draws.set(torch.tensor([0.0, 0, 0, 0, 1, 1]), at=10)
    found = list(islice(draws, 20))
    assert {*found[:10]} == {0, 1}
    assert {*found[10:]} == {4, 5}


def test_an_interrupted_run_draws_what_it_would_have_drawn() -> None:
    whole = Draws(50, seed=3)
    going = iter(whole)
    first = [next(going) for _ in range(30)]
    whole.set(torch.rand(50, generator=torch.Generator().manual_seed(0)))
    state, rest = whole.state(), [next(going) for _ in range(40)]
    again = Draws(50, seed=3)
    again.load(state)
    again.skip(30)
    assert list(islice(again, 40)) == rest
    again = Draws(50, length=30, seed=3)
    assert list(again) == first
    again.load(state)
    assert list(again) == rest[:30]


def test_processes_share_the_sequence() -> None:
    parts = [list(islice(Draws(10, rank=rank, world=2), 10)) for rank in range(2)]
    assert [each for pair in zip(*parts) for each in pair] == list(islice(Draws(10), 20))


@pytest.mark.parametrize("wrong", [[0.0, 0.0, 0.0], [1.0, -1.0, 1.0], [1.0, float("nan"), 1.0], [1.0, 1.0]])
def test_weights_that_say_nothing(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="weights of samples must be 3 finite numbers of at least 0, not all 0"):
        Draws(3).set(torch.tensor(wrong))


def test_domains_are_parts_or_what_the_data_set_says() -> None:
    pairs = scenes(3, 0)
    joined = domains_of(ConcatDataset([pairs, pairs[:1]]))
    assert joined is not None
    assert joined[0] == [0, 1]
    assert joined[1].tolist() == [0, 0, 0, 1]
    said = domains_of(Watched(pairs, ["night", "day", "night"]))
    assert said is not None
    assert (said[0], said[1].tolist()) == (["night", "day"], [0, 1, 0])
    assert domains_of(pairs) is None
    with pytest.raises(ValueError, match="the data set has 3 samples, but says the domain of 2"):
        domains_of(Watched(pairs, ["night", "day"]))

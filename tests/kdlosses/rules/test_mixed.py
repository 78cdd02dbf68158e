from __future__ import annotations

import pytest
import torch
from torch import nn

from kdlosses.rules.mixed import Mixed, Plain, Zero, choices, decided


def mixed(seed: int) -> Mixed:
    torch.manual_seed(seed)
    found = Mixed(linear=Plain(nn.Linear(3, 3)), skip=nn.Identity(), zero=Zero())
    found.alpha.data = torch.randn(3)
    return found


def test_operations_count_by_their_weights() -> None:
    one, x = mixed(0), torch.randn(5, 3)
    weights = one.alpha.detach().double().exp()
    weights /= weights.sum()
    linear = one.operations["linear"].layer(x)
    torch.testing.assert_close(one(x), weights[0].float() * linear + weights[1].float() * x)
    torch.testing.assert_close(Plain(nn.Identity())(x, "edges"), x)


def test_the_strongest_stand_for_all_in_a_copy() -> None:
    network = nn.Sequential(mixed(0), nn.ModuleDict(dict(inner=mixed(1))), nn.ReLU())
    found = decided(network)
    assert choices(network) == {"0": network[0].strongest, "1.inner": network[1]["inner"].strongest}
    assert choices(found) == {}
    places = found[0], found[1]["inner"]
    for place, original in zip(places, (network[0], network[1]["inner"])):
        assert type(place) is type(original.operations[original.strongest])
    assert isinstance(network[0], Mixed)
    for name in network[0].operations:
        other = decided(network, {"0": name, "1.inner": "skip"})
        assert type(other[0]) is type(network[0].operations[name])
        assert type(other[1]["inner"]) is nn.Identity
    with pytest.raises(ValueError, match="two operations or more, got 1"):
        Mixed(skip=nn.Identity())


def test_what_is_mixed_twice_inside_another_or_as_a_whole_is_decided() -> None:
    shared = mixed(0)
    twice = decided(nn.Sequential(shared, shared))
    assert choices(twice) == {}
    assert twice[0] is twice[1]
    assert type(decided(shared, {"": "skip"})) is nn.Identity
    nested = nn.Sequential(Mixed(inner=mixed(0), skip=nn.Identity()))
    assert type(decided(nested, {"0": "inner", "0.operations.inner": "zero"})[0]) is Zero


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"0": "skipp"}, "'0' has no operation 'skipp'; did you mean 'skip'"),
        ({"0": "skip", "1": "skip"}, "'1' is no Mixed of Sequential"),
        ({}, "'0' has no choice"),
    ],
)
def test_choices_that_do_not_fit_are_named(chosen: dict[str, str], said: str) -> None:
    with pytest.raises(KeyError, match=said):
        decided(nn.Sequential(mixed(0), nn.ReLU()), chosen)

"""The entries of the contract suites themselves: each is of a part that exists, and there is one of a part."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract.entry import TESTS, LossContract, check_rule, entries_in, entry_of, files
from contract.test_losses import MAPS, NODES, loss_of, needs_of, shapes_of
from torch import Tensor

import densekd.losses  # noqa: F401  registers the losses that need maps
import graphkd.losses  # noqa: F401  registers the losses that need edges
import kdlosses
from densekd.methods import METHODS
from graphkd.recipes import RECIPES
from graphkd.teachers import TEACHERS

PARTS = {"loss": kdlosses.LOSSES, "recipe": RECIPES, "teacher": TEACHERS, "method": METHODS}


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(TESTS)))
def test_an_entry_is_of_a_registered_part(path: Path) -> None:
    for entry in entries_in(path):
        assert entry.name in PARTS[entry.kind], f"no {entry.kind} is called {entry.name!r}"
        assert entry is entry_of(type(entry), entry.name), "another test file has an entry of it, too"


@pytest.mark.usefixtures("registry_restored")
def test_a_missing_entry_fails_that_part_alone_and_says_what_to_write() -> None:
    @kdlosses.register
    def powered(student: Tensor, teacher: Tensor, power: float, weight: Tensor | None = None) -> Tensor:
        return kdlosses.weighted_mean((student - teacher).abs().pow(power).mean(1), weight)

    assert (needs_of("powered"), shapes_of("powered")) == ((), [NODES, MAPS])  # its tests are collected
    with pytest.raises(AssertionError, match=r"requires the option 'power'(?s:.*)CONTRACT = LossContract\('pow"):
        loss_of("powered")
    with pytest.raises(AssertionError, match=r"no_copies; .* write why into tests/.*test_entries\.py"):
        check_rule(LossContract("powered"), powered, "no_copies", holds=False)
    with pytest.raises(AssertionError, match=r"take no_copies='why not' out of tests/.*: the rule holds"):
        check_rule(LossContract("powered", no_copies="why not"), powered, "no_copies", holds=True)
    check_rule(LossContract("powered", no_copies="it is so"), powered, "no_copies", holds=False)

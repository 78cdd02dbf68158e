"""The entries of the contract suites themselves: each is of a part that exists, and there is one of a part."""

from __future__ import annotations

from pathlib import Path

import pytest
from contract.entry import TESTS, entries_in, entry_of, files

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

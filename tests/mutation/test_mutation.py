"""Damaged calls end in a result or in an error of ours; `python tests/mutation` makes many more of them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def mutation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutation_main", Path(__file__).parent / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("subject", "cases"), [("losses", 214), ("entries", 90), ("graphs", 60)])
def test_no_damaged_call_ends_in_a_fault(mutation: ModuleType, subject: str, cases: int) -> None:
    tally = mutation.run(subject, range(cases), seed=1)
    assert tally.faults == []
    assert tally.counts["ran"] >= cases / 30  # the cases are not all refused at the door
    assert tally.counts["refused"] > cases / 5

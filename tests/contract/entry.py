"""What the contract suites cannot know of a part: it stands in the part's own test file, as `CONTRACT`.

    CONTRACT = LossContract("vid", no_fixed_point="a regressor that is still to be learned stands between")

A list holds the entries of several parts. A part that is like most needs none. Every reason is shown where its test
fails. This module finds the entries, of pytest's modules and outside of pytest alike.
"""

from __future__ import annotations

import ast
import functools
import importlib
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar, TypeVar

TESTS = Path(__file__).parents[1]


@dataclass(frozen=True)
class Contract:
    """Of any part: its registered name."""

    name: str
    kind: ClassVar[str]


@dataclass(frozen=True)
class LossContract(Contract):
    """Of a loss or a policy. What is text is a reason, for which a rule does not hold.

    Options that name a number of channels or classes (`student_channels`, `teacher_channels`, `channels`, `classes`)
    are filled in where they have no default: 5 of each.
    """

    kind: ClassVar[str] = "loss"
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it is built with in the tests, on `(24, 5)` and `(3, 5, 4, 6)`."""
    no_fixed_point: str = ""
    """Why a perfect student still has a gradient."""
    entropy: str = ""
    """Why its least value is not 0."""
    stopped: str = ""
    """Why the gradient is not that of the value."""
    no_teacher: str = ""
    """Why the teacher does not count, or not everywhere."""
    no_weight: str = ""
    """Why it takes no `weight`."""
    no_copies: str = ""
    """Why weight 2 is not the same as two copies."""
    per_sample: str = ""
    """Why a map is not the same as its pixels as nodes."""
    one_channel: str = ""
    """Why a single channel teaches nothing."""
    two_classes: Mapping[str, Any] = field(default_factory=dict)
    """What it is built with where there are two classes."""
    no_two_classes: str = ""
    """Why a head with one sigmoid is not one of two classes to it."""
    plain: Callable[..., Any] | None = None
    """Its formula typed straight down in torch, for the benchmark: `(student, teacher, <context, options>)`, and `own`,
    the built loss, where it has parameters."""
    sizes: Callable[[int, int], Mapping[str, Any]] | None = None
    """What it is built with in the benchmark, of a number of positions and one of channels."""
    over_pairs: bool = False
    """Whether it holds pairs of positions, and is measured on fewer of them."""


@dataclass(frozen=True)
class RecipeContract(Contract):
    """Of a recipe of graphkd. What is text is a reason, for which a rule does not hold."""

    kind: ClassVar[str] = "recipe"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Where it changes something else, those with which it is what it would be without that, and quick."""
    undrawn: Mapping[str, Any] = field(default_factory=dict)
    """Those with which nothing is drawn from the order of the nodes, and training is short."""
    short: Mapping[str, Any] = field(default_factory=dict)
    """Those of a short training on 25 nodes of 4 classes."""
    without_edges: Mapping[str, Any] = field(default_factory=dict)
    """Those of a short training on 90 nodes of 3 classes."""
    no_control: str = ""
    """Why with `lam=1` it is not the untaught student."""
    reads_labels: str = ""
    """Why it reads labels with `lam=0`, too."""
    learns_less: str = ""
    """Why 0.7 is enough of it, where others reach 0.9."""
    always_draws: str = ""
    """Why it cannot do without drawing from the order of the nodes."""
    several_labels: str = ""
    """Why a single label is not enough."""
    more_outputs: str = ""
    """Why the outputs of a plain teacher are not enough."""


@dataclass(frozen=True)
class TeacherContract(Contract):
    """Of a teacher of graphkd."""

    kind: ClassVar[str] = "teacher"
    accuracy: float = 0.93
    """What it reaches on the digits in 60 epochs."""
    hidden: int = 1
    """Hidden layers of its default depth that it tells."""
    depth: str = "layers"
    """The option that says how deep it is."""


@dataclass(frozen=True)
class MethodContract(Contract):
    """Of a method of densekd. What is text is a reason, for which a rule does not hold."""

    kind: ClassVar[str] = "method"
    options: Mapping[str, Any] = field(default_factory=dict)
    """What it is called with in the tests."""
    no_fixed_point: Mapping[str, str] = field(default_factory=dict)
    """By entry, why a perfect student pays for it, where the entry of its loss does not say so."""
    no_twin: str = ""
    """Why a copy of the student cannot be its teacher."""
    models: Callable[[], Mapping[str, Any]] | None = None
    """What makes `scope`, `student`, `teacher` and `batch`, where none of the pairs of the suite is for it."""


C = TypeVar("C", bound=Contract)


def entry_of(kind: type[C], name: str) -> C:
    """The entry of a part; as of most parts where its test file has none."""
    return entries(kind).get(name, kind(name))


@functools.cache
def entries(kind: type[C]) -> dict[str, C]:
    """Every entry of a kind by the name of its part. Files that cannot be read are left to `test_entries.py`."""
    found: dict[str, C] = {}
    for path in files(kind.__name__):
        try:
            found |= {each.name: each for each in entries_in(path) if isinstance(each, kind)}
        except Exception:
            continue
    return found


def files(kind: str = r"\w+Contract") -> list[Path]:
    """Test files that hold an entry of a kind."""
    wanted = re.compile(rf"CONTRACT = (?:\[.*)?\b{kind}\(", re.DOTALL)

    def holds(text: str) -> bool:
        if not wanted.search(text):
            return False
        parts = [
            ast.get_source_segment(text, node) or "" for node in ast.parse(text).body if isinstance(node, ast.Assign)
        ]
        return any(wanted.match(part) for part in parts)

    return [path for path in sorted(TESTS.rglob("test_*.py")) if holds(path.read_text())]


def entries_in(path: Path) -> list[Contract]:
    """The entries of a test file."""
    found = _module(path).CONTRACT
    return found if isinstance(found, list) else [found]


def _module(path: Path) -> ModuleType:
    """A test file as a module, by the name that pytest gives it, so that it is loaded once."""
    name = ".".join(path.relative_to(TESTS.parent).with_suffix("").parts)
    folder = TESTS.parent
    for part in name.split(".")[:-1]:
        folder /= part
        package = ".".join(folder.relative_to(TESTS.parent).parts)
        vars(sys.modules.setdefault(package, ModuleType(package))).setdefault("__path__", [str(folder)])
    return importlib.import_module(name)


def home_of(part: Any) -> str:
    """Where the test of a part lies, from the root of the repository."""
    *folders, module = part.__module__.split(".")
    return "/".join(["tests", *folders, f"test_{module}.py"])


def check_rule(entry: Contract, part: Any, field: str, holds: bool) -> None:
    """Fail where a rule does not hold of a part and its entry gives no reason, or it holds and the entry gives one."""
    reason, where = getattr(entry, field), home_of(part)
    kind = type(entry).__name__
    assert holds or reason, (
        f"{entry.kind} {entry.name!r}: {field}; if that is as it should be, write why into {where}\n"
        f"from contract.entry import {kind}\n\nCONTRACT = {kind}({entry.name!r}, {field}='...')"
    )
    assert not (holds and reason), (
        f"{entry.kind} {entry.name!r}: take {field}={reason!r} out of {where}: the rule holds"
    )

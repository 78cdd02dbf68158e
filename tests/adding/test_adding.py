"""What it takes to add a part: one file and its test, in a copy of the repository in which nothing else is edited."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COPIED = (
    "graphdensekd",
    "kdlosses",
    "graphkd",
    "densekd",
    "tests",
    "docs",
    "tools",
    "benchmarks",
    "setup.cfg",
    "CONTRIBUTING.md",
)
FILES = {
    "kdlosses/feature/bridged.py": '''
from __future__ import annotations

from torch import Tensor, nn

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register


@register(match="positions")
class Bridged(nn.Module):
    r"""Squared error after a linear map that is learned beside the student.

    $$ L = \\frac{1}{C_t} \\lVert W s - t \\rVert^2 $$

    Args:
        student_channels: of the student.
        teacher_channels: of the teacher.

    `forward`:
        student: features `(N, C_s, *)`.
        teacher: features `(N, C_t, *)`.
        weight: of each position, `(N, *)`.

    Paper: none, this is an example.

    >>> import torch
    >>> Bridged(3, 4)(torch.zeros(5, 3), torch.zeros(5, 4)).shape
    torch.Size([])
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.bridge = nn.Linear(student_channels, teacher_channels, bias=False)

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        found = self.bridge(student.movedim(1, -1)).movedim(-1, 1)
        return weighted_mean((found - teacher).square().mean(1), weight)
''',
    "tests/kdlosses/feature/test_bridged.py": """
from contract.entry import LossContract


def plain(student, teacher, own):
    return ((own.bridge(student.movedim(1, -1)).movedim(-1, 1) - teacher) ** 2).mean()


CONTRACT = LossContract("bridged", no_fixed_point="a map that is still to be learned stands between", plain=plain)
""",
    "kdlosses/policy/every_third.py": '''
from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from kdlosses.reduce import nothing
from kdlosses.registry import build, register


@register(match="inner")
class EveryThird(nn.Module):
    r"""Any loss in every third epoch, 0 in the others.

    $$ L = [\\mathrm{epoch} \\equiv 0 \\pmod 3] \\; \\ell(s, t) $$

    Args:
        loss: what `kdlosses.build` takes.

    `forward`:
        student: as the loss inside wants it.
        teacher: likewise.
        epoch: counted from 0.
        context: what the loss inside names.

    Paper: none, this is an example.

    >>> import torch
    >>> build("every_third")(torch.zeros(1, 2), torch.ones(1, 2), epoch=1).item()
    0.0
    """

    def __init__(self, loss: Any = "kl") -> None:
        super().__init__()
        self.loss = build(loss)

    def active(self, epoch: int, **context: Any) -> bool:
        return epoch % 3 == 0 and self.loss.active(epoch=epoch, **context)

    def forward(self, student: Tensor, teacher: Tensor, epoch: int, **context: Any) -> Tensor:
        return nothing(student) if epoch % 3 else self.loss(student, teacher, epoch=epoch, **context)
''',
    "graphkd/recipes/squared.py": '''
from __future__ import annotations

import torch
from torch import Tensor, nn

import kdlosses
from graphkd.recipes.registry import recipe
from graphkd.sparse.rows import rows
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History


@recipe()
def squared(model: nn.Module, lesson: Lesson, *, lam: float = 0.0) -> History:
    """Learn the teacher's logits by their squared error.

    Args:
        model: the student.
        lesson: with the teacher's logits.
        lam: weight of the labels.
    """
    teacher, mse = lesson.teacher_logits(), kdlosses.build("mse")
    nothing = torch.zeros(())

    def loss(nodes: Tensor | slice) -> Tensor:
        hard = lesson.hard_loss(model) if lam > 0 else nothing
        soft = mse(model(rows(lesson.x, nodes)), rows(teacher, nodes)) if lam < 1 else nothing
        return lam * hard + (1 - lam) * soft

    return lesson.train(model, loss, len(lesson))
''',
    "graphkd/teachers/gcn_twice.py": '''
from __future__ import annotations

from torch_geometric.nn import GCNConv

from graphkd.teachers.gnn import GNN
from graphkd.teachers.registry import teacher


@teacher(weight_decay=1e-3)
def gcn_twice(in_features: int, classes: int, *, layers: int = 2, hidden: int = 64, dropout: float = 0.8) -> GNN:
    """GCN in which a node counts twice among its neighbours."""
    widths = [in_features, *[hidden] * (layers - 1), classes]
    return GNN([GCNConv(a, b, improved=True) for a, b in zip(widths, widths[1:])], dropout)
''',
    "densekd/methods/variation.py": '''
from __future__ import annotations

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import tap


@method()
def variation(student: nn.Module, teacher: nn.Module, tau: float = 1.0) -> list[dict[str, Any]]:
    """Total variation between the class probabilities of each pixel.

    Paper: none, this is an example.
    """
    taps = {"student": tap(student, "logits"), "teacher": tap(teacher, "logits")}
    return [{"loss": {"type": "tvd", "tau": tau}, **taps, "weight": 1.0, "name": "variation"}]
''',
    "densekd/policies/first_half.py": '''
from __future__ import annotations

import torch

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run


@policy("first_half")
class FirstHalf(Policy):
    """Draw from the first half of the data alone.

    Paper: none, this is an example.
    """

    draws = True

    def start(self, run: Run) -> None:
        count = len(run.data)
        run.sampler().set((torch.arange(count) < count / 2).double(), at=0)
''',
}
NAMES = ("bridged", "every_third", "squared", "gcn_twice", "variation")
FOUND = """
import itertools, sys
sys.path.insert(0, "docs/hooks")
import kdlosses, graphkd.recipes, graphkd.teachers, densekd.methods, densekd.policies, pages

assert kdlosses.build("bridged", student_channels=3, teacher_channels=4).name == "bridged"
assert kdlosses.build(dict(type="every_third", loss="mse")).needs == ("weight", "epoch")
assert {"Bridged", "EveryThird"} <= {*kdlosses.__all__}
assert "squared" in graphkd.recipes.__all__ and "gcn_twice" in graphkd.teachers.__all__
assert "variation" in densekd.methods.__all__
assert "FirstHalf" in densekd.policies.__all__ and densekd.policies.build_policies(["first_half"])[0].draws
quick = graphkd.StudentClassifier(hidden=(32,), epochs=20)
teacher = dict(type="gcn_twice", epochs=20)
result = graphkd.distill(graphkd.load("digits"), teacher, "squared", student=quick, setting="tran")
assert result.metrics["student"]["tran"] > 0.5
made = dict(itertools.takewhile(lambda page: page[0] != "reference/rules.md", pages._pages()))
assert "policies/first_half.md" in made["reference/index.md"]
for what, name in zip(("losses", "losses", "recipes", "teachers", "methods"), NAMES):
    assert f"{what}/{name}.md" in made["reference/index.md"], name
    assert "## Options" in made[f"reference/{what}/{name}.md"] or what in ("teachers", "methods")
"""
SUITES = (
    *("contract/test_losses.py", "contract/test_methods.py", "contract/test_entries.py", "graphkd/test_recipes.py"),
    *("graphkd/test_batches.py", "graphkd/test_fields.py", "graphkd/test_terms.py"),
    *("graphkd/test_distillation.py", "tools/test_benchmark.py", "tools/test_rank.py"),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with one more file for each part, and nothing else changed."""
    folder = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    for name in ("configs", "results"):
        (folder / name).symlink_to(ROOT / name)
    for path, text in FILES.items():
        assert not (folder / path).exists()
        (folder / path).write_text(text.lstrip().replace("\\", "\\"))
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_part_is_found_shown_and_documented(copy: Path) -> None:
    done = run(copy, "-c", f"NAMES = {NAMES}\n{FOUND}")
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
def test_the_suites_enrol_it_and_pass(copy: Path) -> None:
    suites = [f"tests/{path}" for path in SUITES]
    done = run(copy, "-m", "pytest", "-v", "-p", "no:cacheprovider", *suites, "-k", " or ".join(NAMES))
    assert done.returncode == 0, done.stdout[-3000:]
    for name, least in zip(NAMES, (40, 40, 4, 2, 6)):
        assert len(re.findall(rf"\b{name}\b.* PASSED", done.stdout)) >= least, name

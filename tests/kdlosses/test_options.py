"""Options of losses: numbers, names and choices that no loss can use are named when it is built, or called."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import densekd.losses  # noqa: F401  registers the losses that need maps
import graphkd.losses  # noqa: F401  registers the losses that need edges
import kdlosses
from kdlosses import LOSSES, build, register
from kdlosses.options import checked

pytestmark = pytest.mark.usefixtures("registry_restored")


def numbers_of(*kinds: type) -> list[Any]:
    """Every option of every registered loss whose default is of one of these types."""
    return [
        pytest.param(key, name, option.default, id=f"{key}-{name}")
        for key, loss in sorted(LOSSES.items())
        for name, option in inspect.signature(loss).parameters.items()
        if type(option.default) in kinds and name not in kdlosses.CONTEXT
    ]


every_number = pytest.mark.parametrize(("key", "name", "default"), numbers_of(int, float))


def check(key: str, **options: Any) -> dict[str, Any]:
    return checked(key, LOSSES[key], options, complete=False)


@every_number
def test_what_is_no_number_is_refused(key: str, name: str, default: float) -> None:
    for wrong in ("4", True, np.bool_(True), None, [default], 1j, torch.tensor(1.0)):
        if wrong is None and "None" in str(inspect.signature(LOSSES[key]).parameters[name].annotation):
            continue
        with pytest.raises(TypeError, match=rf"'{key}': {name} must be .*number"):
            check(key, **{name: wrong})


@every_number
def test_what_is_not_finite_is_refused(key: str, name: str, default: float) -> None:
    documented = name in LOSSES[key].ground.infinite
    for wrong in (math.nan, np.float32("nan"), math.inf, -math.inf):
        if wrong == math.inf and documented:
            assert check(key, **{name: wrong}) == {name: wrong}
            continue
        with pytest.raises((TypeError, ValueError), match=name):
            check(key, **{name: wrong})


@every_number
def test_numbers_of_numpy_are_plain_ones(key: str, name: str, default: float) -> None:
    for made in (np.float64, np.float32) if isinstance(default, float) else (np.int64, np.int32, np.uint16):
        value = abs(default) or type(default)(1)
        found = check(key, **{name: made(value)})[name]
        assert type(found) is type(default)
        assert found == pytest.approx(value, rel=1e-6)


SIGNED = {("alpha_div", "alpha"), ("mi_alpha", "alpha_logit"), ("anneal", "start"), ("anneal", "end")}


@every_number
def test_what_is_too_small_is_refused(key: str, name: str, default: float) -> None:
    """A temperature is positive, a number of things at least 1, all else at least 0, save where a loss says so."""
    if name == "ignore_index" or (key, name) in SIGNED:
        assert check(key, **{name: -1}) == {name: -1}
        return
    whole = "float" not in str(inspect.signature(LOSSES[key]).parameters[name].annotation)
    least = 0 if whole and default > 0 and (key, name) != ("topk_kl", "k") else -1
    for wrong in {least, -3}:
        with pytest.raises(ValueError, match=rf"{name}|temperature"):
            check(key, **{name: wrong})
    if "tau" in name.split("_") and not name.endswith("rate"):
        with pytest.raises(ValueError, match=r"temperature .*must be positive, got 0"):
            check(key, **{name: 0})


@pytest.mark.parametrize("sequence", [[1.0, math.nan], (0.5, math.inf)])
def test_numbers_in_a_list_are_looked_at(sequence: Any) -> None:
    with pytest.raises(ValueError, match="over must be finite"):
        build(dict(type="ramp", loss="kl", over=sequence))
    with pytest.raises(ValueError, match="weights must be finite"):
        build(dict(type="average", weights=sequence))


def test_choices_and_flags() -> None:
    with pytest.raises(ValueError, match="form must be 'squared' or 'norm', got 'l2'"):
        build(dict(type="at", form="l2"))
    with pytest.raises(ValueError, match="view must be 'batch'"):
        build(dict(type="sp", view="batches"))
    for wrong in ("no", 0, None):
        with pytest.raises(TypeError, match="ties must be True or False"):
            build(dict(type="bsd_pixel", ties=wrong))
    assert build(dict(type="bsd_pixel", ties=np.bool_(False))).options == {"ties": False}
    with pytest.raises(TypeError, match="classes must be a whole number, got '3'"):
        build(dict(type="dac_kl", classes="3"))
    with pytest.raises(TypeError, match=r"classes must be a whole number, got 3\.5"):
        build(dict(type="dac_kl", classes=3.5))
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        build(dict(type="dac_kl", classes=0))


def test_a_direct_call_is_no_way_round() -> None:
    s = torch.zeros(2, 3)
    for call in (lambda: kdlosses.kl(s, s, tau=-1.0), lambda: kdlosses.kl(s, s, -1.0)):
        with pytest.raises(ValueError, match="loss 'kl': the temperature tau must be positive"):
            call()
    for make in (lambda: kdlosses.DINO(3, -0.1), lambda: kdlosses.DINO(3, student_tau=-0.1)):
        with pytest.raises(ValueError, match="loss 'dino': the temperature student_tau must be positive"):
            make()
    with pytest.raises(TypeError, match="takes student, teacher and tau, weight"):
        kdlosses.kl(s, s, 1.0, None, 3)
    assert kdlosses.kl(s, s, np.float32(2.0)) == 0


def test_a_loss_of_ones_own_says_what_may_be_less() -> None:
    @register(least={"shift": -2.0})
    def own(student: Tensor, teacher: Tensor, shift: float = 0.0, scale: float = 1.0) -> Tensor:
        return scale * (student - teacher + shift).square().mean()

    assert build(dict(type="own", shift=-2.0)).options == {"shift": -2.0}
    for options in (dict(shift=-2.5), dict(scale=-0.1)):
        with pytest.raises(ValueError, match="must be at least"):
            build(dict(type="own", **options))

    def free(student: Tensor, teacher: Tensor, scale: float = 1.0) -> Tensor:
        return scale * (student - teacher).square().mean()

    assert build(dict(type=free, scale=-1.0))(torch.ones(2, 3), torch.zeros(2, 3)) == -1
    with pytest.raises(ValueError, match="scale must be finite"):
        build(dict(type=free, scale=math.nan))


# --- module:name ------------------------------------------------------------------------------------------------------

OWN = """
import torch
from torch import nn

def halved(student, teacher, scale=0.5):
    return scale * (student - teacher).abs().mean()

class Scaled(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.factor = nn.Parameter(torch.ones(channels))

    def forward(self, student, teacher):
        return (self.factor * (student - teacher)).square().mean()

class Not(nn.Module):
    def forward(self, features):
        return features

ready = Scaled(3)
number = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"own_losses_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / f"{name}_broken.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_string_imports_a_loss_of_ones_own(own: str) -> None:
    s, t = torch.randn(4, 3), torch.randn(4, 3)
    loss = build(dict(type=f"{own}:halved", scale=0.25))
    assert loss.name == "halved"
    torch.testing.assert_close(loss(s, t), 0.25 * (s - t).abs().mean())
    assert loss(s, t.requires_grad_()).requires_grad is False  # the teacher is detached, as for any loss
    for spec in (f"{own}:Scaled", dict(type="ramp", loss=f"{own}:Scaled", start=1.0)):
        built = build(spec, channels=3)
        assert built.filled == {"channels"}
        torch.testing.assert_close(built(s, t, progress=0.0), (s - t).square().mean())
    assert len(list(build(f"{own}:ready").parameters())) == 1


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("{own}x:halved", ValueError, r"no module named .*x'; add its folder to PYTHONPATH"),
        ("{own}:halvd", ValueError, "has no 'halvd'; did you mean 'halved'"),
        ("{own}:number", TypeError, "not int"),
        ("{own}:Not", TypeError, r"'Not' is no loss: .* takes \(self, features\)|takes \(features\)"),
        ("{own}:", ValueError, "name your own as 'module:name'"),
        (":halved", ValueError, "name your own as 'module:name'"),
        ("{own}.py:halved", ValueError, "no module named"),
        ("{own}_broken:halved", ModuleNotFoundError, "not_installed_here"),  # what it lacks, not that it is missing
    ],
)
def test_an_import_path_that_is_wrong_is_named(own: str, spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build(spec.format(own=own))

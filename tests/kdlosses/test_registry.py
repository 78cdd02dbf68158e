from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import kdlosses
from kdlosses import LOSSES, build, register

pytestmark = pytest.mark.usefixtures("registry_restored")


def test_the_three_ways_to_build_agree() -> None:
    s, t = torch.randn(4, 3), torch.randn(4, 3)
    value = kdlosses.kl(s, t, tau=2.0)
    assert build(dict(type="kl", tau=2.0))(s, t) == value
    assert build(dict(type=kdlosses.kl, tau=2.0))(s, t) == value
    assert build("kl")(s, t) == kdlosses.kl(s, t)
    assert build(build("kl"))(s, t) == kdlosses.kl(s, t)


def test_a_spec_is_left_as_it_was() -> None:
    spec = dict(type="kl", tau=2.0)
    build(spec)
    assert spec == dict(type="kl", tau=2.0)


def test_a_function_of_ones_own_needs_no_registration() -> None:
    def l1(student: Tensor, teacher: Tensor, scale: float = 1.0, labels: Tensor | None = None) -> Tensor:
        return scale * (student - teacher).abs().mean()

    loss = build(dict(type=l1, scale=2.0))
    assert loss.name == "l1"
    assert loss.needs == ("labels",)
    assert loss.requires == ()
    assert (
        loss(torch.ones(2, 3), torch.zeros(2, 3), progress=0.5) == 2
    )  # context that it does not name is not handed in


def test_a_module_of_ones_own_keeps_its_parameters() -> None:
    class Hint(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.project = nn.Linear(3, 5)

        def forward(self, student: Tensor, teacher: Tensor, progress: float) -> Tensor:
            return progress * (self.project(student) - teacher).square().mean()

    loss = build(Hint())
    assert loss.requires == ("progress",)
    assert len(list(loss.parameters())) == 2
    with pytest.raises(TypeError, match="takes no options"):
        build(dict(type=Hint(), tau=1.0))


def test_a_registered_class_is_built_with_its_options() -> None:
    @register(match="samples")
    class ScaledL2(nn.Module):
        def __init__(self, channels: int, tau: float = 1.0) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.full((channels,), tau))

        def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
            return (self.scale * student.mean(1, keepdim=True)).square().mean()

    loss = build(dict(type="scaled_l2", channels=4, tau=2.0))
    assert loss.match == "samples"
    student = torch.ones(2, 3, requires_grad=True)
    assert loss(student, torch.ones(2, 7, requires_grad=True)) == 4
    with pytest.raises(TypeError, match="requires the option 'channels'"):
        build("scaled_l2")
    with pytest.raises(TypeError, match="no option 'chanels'; did you mean 'channels'"):
        build(dict(type="scaled_l2", chanels=4))


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("cwdd", KeyError, "did you mean 'cwd'"),
        (dict(type="kl", taus=4.0), TypeError, "did you mean 'tau'"),
        (dict(type="kl", weight=3.0), TypeError, "belongs beside it, in its entry"),
        (dict(type="kl", tau="4"), TypeError, "tau must be a number, got '4'"),
        (dict(type="kl", tau=0.0), ValueError, "temperature tau must be positive"),
        (dict(tau=4.0), TypeError, "needs a 'type'"),
        (3, TypeError, "not int"),
    ],
)
def test_a_wrong_spec_is_named(spec: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build(spec)  # type: ignore[arg-type]


def test_a_taken_key_raises() -> None:
    with pytest.raises(ValueError, match=r"registered already, by kdlosses\.logit\.kl"):
        register(kdlosses.kl)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x, y: x, "first two arguments"),
        (lambda student, teacher, **rest: student, "hide a typo"),
        (lambda student, teacher, reduction="mean": student, "belongs to the entry"),
        (lambda student, teacher, loss_weight=1.0: student, "belongs to the entry"),
    ],
)
def test_a_signature_that_breaks_the_contract_is_refused(loss: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        register(name="own")(loss)  # type: ignore[type-var]
    assert "own" not in LOSSES


def test_halves_are_raised_and_doubles_are_kept() -> None:
    seen = []

    def spy(student: Tensor, teacher: Tensor) -> Tensor:
        seen.append((student.dtype, teacher.requires_grad, torch.is_autocast_enabled("cpu")))
        return (student @ student.T).mean()

    with torch.autocast("cpu", torch.bfloat16):
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            build(spy)(torch.ones(2, 3, dtype=dtype), torch.ones(2, 3, dtype=dtype, requires_grad=True))
    assert seen == [(dtype, False, False) for dtype in (torch.float32, torch.float32, torch.float32, torch.float64)]


def test_what_the_caller_knows_reaches_a_loss_inside_another() -> None:
    known = dict(student_channels=3, teacher_channels=4, classes=7)
    vid = {"type": "vid", "student_channels": 5}
    for loss in ("vid", vid, {"type": "until", "loss": "vid", "stop": 0.5}):
        built = build({"type": "ramp", "loss": loss}, **known)
        assert built(torch.zeros(2, 5 if loss is vid else 3), torch.zeros(2, 4), progress=0.4) > 0
        assert built.filled == ({"teacher_channels"} if loss is vid else {"student_channels", "teacher_channels"})
    assert vid == {"type": "vid", "student_channels": 5}  # what was handed in is as it was
    staged = build({"type": "stages", "losses": [[0.5, "vid"], [1.0, None]]}, **known)
    assert staged.filled == {"student_channels", "teacher_channels"}
    assert build({"type": "ramp", "loss": "mse"}, **known).filled == set()
    with pytest.raises(TypeError, match="loss 'vid' requires the option"):
        build({"type": "ramp", "loss": "vid"}, student_channels=3)


def test_a_policy_says_of_tensors_what_the_loss_inside_says() -> None:
    for inner in ("sp", "kl", "mse"):
        plain, around = build(inner), build({"type": "ramp", "loss": {"type": "until", "loss": inner}})
        assert (around.match, around.categorical, around.maps) == (plain.match, plain.categorical, plain.maps)
    assert build("sp").match == "positions"
    assert build("kl").categorical
    assert not build("mse").categorical


def test_a_function_of_ones_own_may_say_what_must_agree() -> None:
    def means(student: Tensor, teacher: Tensor) -> Tensor:
        return (student.mean(1) - teacher.mean(1)).square().mean()

    with pytest.raises(ValueError, match="must agree in shape"):
        build(means)(torch.ones(2, 3), torch.ones(2, 4))
    means.match = "positions"  # type: ignore[attr-defined]
    assert build(means).match == "positions"
    assert build(means)(torch.ones(2, 3), torch.zeros(2, 4)) == 1

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from scipy import stats
from scipy.special import log_softmax, rel_entr, softmax
from sklearn.datasets import load_digits
from torch import Tensor, nn

from kdlosses import build, kl, swing

CONTRACT = LossContract(
    "swing",
    options=dict(private=(1, 3), noise=0.0),
    two_classes=dict(private=[1], noise=0.0),
    no_fixed_point="a student that answered as the teacher does where it is private would leak",
)


def test_formula_without_noise() -> None:
    rng = np.random.default_rng(0)
    s, t, m, w = rng.normal(size=(9, 4)), 2 * rng.normal(size=(9, 4)), rng.random(9), rng.random(9)
    pi = np.maximum(softmax(t, axis=1)[:, [1, 3]].sum(1), m)[:, None]
    each = rel_entr(softmax(t / (0.8 + 4.2 * pi), axis=1), softmax(s, axis=1)).sum(1)
    s, t, m, w_ = map(torch.from_numpy, (s, t, m, w))
    value = swing(s, t, private=[1, 3], tau_min=0.8, tau_max=5.0, noise=0.0, privacy=m, weight=w_)
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-9)


def test_formula_with_noise() -> None:
    """The noise of torch's generator, drawn once more here, in the same order."""
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(50, 4)), 2 * rng.normal(size=(50, 4))
    torch.manual_seed(3)
    value = swing(*map(torch.from_numpy, (s, t)), private=[0], tau_max=5.0, noise=0.2)
    torch.manual_seed(3)
    laplace = stats.laplace.ppf(torch.rand(50, 4, dtype=torch.float64).numpy())
    pi = softmax(t, axis=1)[:, :1]
    p = np.maximum(softmax(t / (1 + 4 * pi), axis=1) + 0.2 * pi * laplace, 0)
    p /= p.sum(1, keepdims=True)
    assert (p == 0).any()
    np.testing.assert_allclose(value.item(), rel_entr(p, np.exp(log_softmax(s, axis=1))).sum(1).mean(), rtol=1e-9)


def test_public_positions_are_kl() -> None:
    s, t = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(swing(s, t, privacy=torch.zeros(2, 3, 3)), kl(s, t))
    hidden = torch.zeros(2, 3, 3, dtype=torch.bool)
    hidden[1] = True
    torch.testing.assert_close(swing(s, t, privacy=hidden, weight=~hidden), kl(s, t, weight=~hidden))


def test_a_student_of_private_classes_alone_does_not_become_its_teacher() -> None:
    """With both sides at one temperature it would: the least value is at the teacher, whatever the temperature."""
    torch.manual_seed(0)
    t, student = 3 * torch.randn(20, 4), torch.zeros(20, 4, requires_grad=True)
    optimiser = torch.optim.Adam([student], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        swing(student, t, private=[0, 1, 2, 3], noise=0.0).backward()
        optimiser.step()
    assert student.softmax(1).sub(0.25).abs().max() < 0.05
    assert kl(student, t) > 0.5


class Secrets:
    """Digits, and a teacher that has learned by heart a wrong label, the secret, for each of 60 private ones."""

    def __init__(self) -> None:
        x, y = load_digits(return_X_y=True)
        draw = torch.Generator().manual_seed(0)
        order = torch.randperm(len(x), generator=draw)
        self.x, self.y = torch.from_numpy(x / 16).float()[order], torch.from_numpy(y)[order]
        self.private = torch.arange(600) < 60
        self.told = self.y[:600].clone()
        self.told[:60] = (self.told[:60] + torch.randint(1, 10, (60,), generator=draw)) % 10
        self.teacher = self.fit(lambda z: F.cross_entropy(z, self.told), width=256)(self.x[:600]).detach()
        assert (self.teacher.argmax(1) == self.told).all()

    def fit(self, loss: Callable[[Tensor], Tensor], width: int = 128) -> nn.Module:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(300):
            optimiser.zero_grad()
            loss(model(self.x[:600])).backward()
            optimiser.step()
        return model

    @torch.no_grad()
    def exposure(self, model: nn.Module) -> float:
        """Bits that an attacker, who guesses in the order of the student's answers, is told of a secret."""
        z, secret = model(self.x[:60]), self.told[:60, None]
        rank = 1 + (z > z.gather(1, secret)).sum(1)
        return float((np.log2(10) - rank.double().log2()).mean())

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        return float((model(self.x[600:]).argmax(1) == self.y[600:]).double().mean())


@pytest.fixture(scope="module")
def secrets() -> Secrets:
    return Secrets()


def test_an_attack_learns_little_of_private_positions(secrets: Secrets) -> None:
    """Exposure beyond that of a student that never saw a private position: at most a fifth of plain distillation's."""
    t, private = secrets.teacher, secrets.private
    blind = secrets.fit(lambda z: kl(z, t, weight=~private))
    plain = secrets.fit(lambda z: kl(z, t))
    hidden = secrets.fit(lambda z: swing(z, t, privacy=private))
    floor = secrets.exposure(blind)
    leak, left = secrets.exposure(plain) - floor, secrets.exposure(hidden) - floor
    assert leak > 1.5
    assert left < 0.2 * leak
    assert secrets.accuracy(hidden) > secrets.accuracy(plain) - 0.02


def test_one_temperature_on_both_sides_would_leak(secrets: Secrets) -> None:
    t, private = secrets.teacher, secrets.private
    tau = 1 + 99 * private.float()[:, None]

    def shared(z: Tensor) -> Tensor:
        each = F.kl_div(F.log_softmax(z / tau, 1), F.softmax(t / tau, 1), reduction="none").sum(1)
        return (tau[:, 0] ** 2 * each).mean()

    assert secrets.exposure(secrets.fit(shared)) > 0.8 * secrets.exposure(secrets.fit(lambda z: kl(z, t)))


def test_noise_is_on_reproducible_and_stays_finite() -> None:
    s, t = torch.randn(200, 3, requires_grad=True), torch.randn(200, 3)
    assert swing(s, t, private=[0]) != swing(s, t, private=[0])
    values = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        values.append(swing(s, t, private=[0, 1, 2], noise=10.0))
    assert values[0] == values[1] != values[2]
    values[0].backward()
    assert s.grad.isfinite().all()


@pytest.mark.parametrize("options", [dict(tau_min=0.0), dict(tau_min=900.0), dict(noise=-0.1)])
def test_options_out_of_range_are_named(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"(tau_min|noise) .*got"):
        swing(torch.zeros(2, 3), torch.zeros(2, 3), private=[0], **options)


def test_what_hides_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="swing hides nothing: name classes, private="):
        swing(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"from 0 \(public\) to 1 \(private\), got 0.0 to 2.0"):
        swing(torch.zeros(2, 3), torch.zeros(2, 3), privacy=torch.tensor([0.0, 2.0]))


def test_compilation_keeps_the_noise() -> None:
    loss = build(dict(type="swing", private=[0], noise=0.3))
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    s, t = torch.randn(20000, 4), torch.randn(20000, 4)
    first, second = compiled(s, t), compiled(s, t)
    assert first != second
    torch.testing.assert_close(first, loss(s, t), rtol=0.1, atol=0)


@pytest.mark.parametrize("wrong", [4, -1])
def test_a_class_that_there_is_not_is_named(wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"private names class {wrong} where there are 4: 0 to 3"):
        swing(torch.zeros(2, 4), torch.zeros(2, 4), private=[1, wrong])

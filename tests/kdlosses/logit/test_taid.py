from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from contract.entry import LossContract
from scipy.special import expit, log_softmax, softmax

from kdlosses.logit import TAID

CONTRACT = LossContract(
    "taid",
    entropy="a cross-entropy with the target: at best the target's entropy",
    stopped="the student's part in the target is taken as it is",
)


def test_values_and_state_of_a_run() -> None:
    """Twenty steps against the recurrence in plain Python floats."""
    rng = np.random.default_rng(0)
    loss = TAID(t_start=0.25, alpha=0.3, beta=0.5).double()
    t, m, last = 0.25, 0.0, None
    for step in range(20):
        z_s, z_t = rng.normal(size=(6, 4)) * (1 + step), rng.normal(size=(6, 4))
        target = softmax((1 - t) * z_s + t * z_t, axis=1)
        expected = -(target * log_softmax(z_s, axis=1)).sum(1).mean()
        value = loss(*map(torch.from_numpy, (z_s, z_t)), progress=step / 20)
        np.testing.assert_allclose(value.item(), expected, rtol=1e-9)
        if last is not None:
            m = 0.5 * m + 0.5 * (last - expected) / (last + 1e-15)
            t = min(1.0, max(0.25 + 0.75 * step / 20, t + 0.3 * expit(m) * (1 - t)))
        last = expected
        np.testing.assert_allclose([loss.t.item(), loss.momentum.item()], [t, m], rtol=1e-9)


def test_the_ends() -> None:
    z_s, z_t = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4)
    (at_student,) = torch.autograd.grad(TAID(t_start=0.0)(z_s, z_t, progress=0.0), z_s)
    assert at_student.abs().max() < 1e-7
    (at_teacher,) = torch.autograd.grad(TAID(t_start=1.0)(z_s, z_t, progress=0.0), z_s)
    (expected,) = torch.autograd.grad(F.cross_entropy(z_s, z_t.softmax(1)), z_s)
    torch.testing.assert_close(at_teacher, expected)


def test_t_rises_and_never_lags_behind_the_line() -> None:
    loss = TAID(t_start=0.2, alpha=0.05)
    seen = []
    for step in range(50):
        loss(torch.randn(8, 5), torch.randn(8, 5), progress=step / 49)
        seen.append(loss.t.item())
        assert step == 0 or seen[-1] >= 0.2 + 0.8 * step / 49 - 1e-6
    assert seen == sorted(seen)
    assert math.isclose(seen[-1], 1.0, rel_tol=1e-6)


def test_micro_batches_of_a_step_and_evaluation_move_nothing() -> None:
    loss = TAID()
    z_s, z_t = torch.randn(8, 5), torch.randn(8, 5)
    loss(z_s, z_t, progress=0.1)
    loss(z_s, z_t, progress=0.2)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss(z_s + 1, z_t, progress=0.2)
    loss(z_s, z_t, progress=0.3, weight=torch.zeros(8))
    loss.eval()(z_s, z_t, progress=0.9)
    assert loss.state_dict() == before
    loss.train()(z_s, z_t, progress=0.9)
    assert loss.t > before["t"]


def test_state_survives_saving() -> None:
    loss, resumed = TAID(), TAID()
    batches = [(torch.randn(8, 5), torch.randn(8, 5)) for _ in range(4)]
    for step in range(2):
        loss(*batches[step], progress=step / 4)
    resumed.load_state_dict(loss.state_dict())
    for step in range(2, 4):
        assert loss(*batches[step], progress=step / 4) == resumed(*batches[step], progress=step / 4)
    assert loss.state_dict() == resumed.state_dict()


def test_a_share_outside_of_zero_to_one_is_named() -> None:
    with pytest.raises(ValueError, match=r"t_start=0\.9, t_end=0\.5"):
        TAID(t_start=0.9, t_end=0.5)

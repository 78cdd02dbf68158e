from __future__ import annotations

import pytest
import torch
from contract.entry import LossContract

import kdlosses

CONTRACT = LossContract("until", options=dict(stop=0.9))


def test_on_before_the_stop_and_off_from_it_on() -> None:
    s, t = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    loss = kdlosses.build(dict(type="until", loss=dict(type="kl", tau=2.0), stop=0.4))
    torch.testing.assert_close(loss(s, t, progress=0.399), kdlosses.kl(s, t, tau=2.0))
    assert loss.active(progress=0.399)
    value = loss(s, t, progress=0.4)
    value.backward()
    assert value == 0
    assert (s.grad == 0).all()
    assert not loss.active(progress=0.4)


def test_context_and_match_are_those_of_the_loss_inside() -> None:
    loss = kdlosses.build(dict(type="until", loss="dkd"))
    assert {"labels", "progress", "weight"} <= set(loss.needs)
    assert "labels" in loss.requires
    assert kdlosses.build(dict(type="until", loss="rkd")).match == kdlosses.build("rkd").match


def test_policies_nest() -> None:
    inner = dict(type="until", loss="kl", stop=0.5)
    loss = kdlosses.build(dict(type="until", loss=inner, stop=0.9))
    assert loss(torch.randn(4, 3), torch.randn(4, 3), progress=0.6) == 0
    assert not loss.active(progress=0.6)


def test_a_stop_that_is_no_share_is_named() -> None:
    with pytest.raises(ValueError, match="stop must be a share"):
        kdlosses.build(dict(type="until", loss="kl", stop=250_000))

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import softmax
from torch import Tensor

import kdlosses

CONTRACT = LossContract("confident_feature", options=dict(kappa=0.25))


def test_features_count_as_far_as_both_are_sure_of_the_class() -> None:
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn(40, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    logits = [3 * torch.randn(40, 4, generator=generator, dtype=torch.float64) for _ in range(2)]
    sure = (sum(softmax(z.numpy(), axis=1) for z in logits) / 2).max(1)
    w = sure * (sure >= 0.6)
    assert 0 < (w > 0).sum() < 40
    expected = np.average(((s - t) ** 2).mean(1).numpy(), weights=w)
    loss = kdlosses.build(dict(type="confident_feature", kappa=0.6))
    found = loss(s, t, student_logits=logits[0], teacher_logits=logits[1])
    assert found.item() == pytest.approx(expected)


def test_logits_of_a_map_are_read_at_the_size_of_the_feature() -> None:
    s, t, z = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.randn(2, 5, 8, 8)
    loss = kdlosses.build("confident_feature")
    small = torch.nn.functional.interpolate(z, size=(4, 4), mode="bilinear", align_corners=False)
    torch.testing.assert_close(
        loss(s, t, student_logits=z, teacher_logits=z), loss(s, t, student_logits=small, teacher_logits=small)
    )


def test_what_cannot_work_is_named() -> None:
    with pytest.raises(ValueError, match="kappa must be a probability"):
        kdlosses.build(dict(type="confident_feature", kappa=2.0))

    def bare(student: Tensor, teacher: Tensor) -> Tensor:
        return (student - teacher).mean()

    with pytest.raises(ValueError, match="'bare' has no argument weight"):
        kdlosses.build(dict(type="confident_feature", loss=bare))
    f, one = torch.zeros(2, 3), torch.zeros(2, 1)
    for other in (one, torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="two classes or more, the same on both sides"):
            kdlosses.build("confident_feature")(f, f, student_logits=one, teacher_logits=other)

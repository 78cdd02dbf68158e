"""More images of the domains where the student is furthest behind its teacher."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import ConcatDataset

from .small import Watched, eyes, net, scenes, trained


def weights_of(gap: str) -> dict[str, float]:
    """By domain the weight at the end."""
    # of 'noise' nobody can learn a thing: the loss of the student is high, and so is the teacher's
    parts = {"clear": scenes(12, 0, noise=0.3), "noise": scenes(12, 1, noise=0.3, wrong=1.0)}
    data = Watched([pair for part in parts.values() for pair in part], [name for name in parts for _ in range(12)])
    spec = dict(type="ddk", every=2, look=12, gap=gap, floor=0.1, smoothing=0.2)
    result = trained(net, eyes(2.0), data, [spec], control=False, epochs=2, lr=1e-6)
    policy = result.outcomes["student"].policies[0]
    return dict(zip(policy.names, policy.weights.tolist()))


def test_the_gap_counts_and_not_the_loss() -> None:
    weights = weights_of("labels")
    assert weights["clear"] > 0.85
    assert sum(weights.values()) == pytest.approx(1)


def test_without_labels_the_gap_is_to_what_the_teacher_says() -> None:
    weights = weights_of("teacher")  # the teacher speaks of both alike
    assert weights["clear"] == pytest.approx(0.5, abs=0.1)


def test_what_is_drawn_follows_the_weights() -> None:
    data = Watched(scenes(12, 0, noise=0.3) + scenes(12, 1, noise=0.3, wrong=1.0), [0] * 12 + [1] * 12)
    spec = dict(type="ddk", every=1000, look=12, floor=0.1, smoothing=0.0)
    trained(net, eyes(2.0), data, [spec], control=False, epochs=4, lr=1e-6)
    drawn = data.read[-96:]
    assert sum(index < 12 for index in drawn) / 96 > 0.85


def test_a_teacher_that_is_the_student_draws_all_domains_alike() -> None:
    torch.manual_seed(0)
    student = net()
    data = ConcatDataset([scenes(8, 0), scenes(8, 1, noise=3.0)])
    result = trained(student, student, data, [dict(type="ddk", look=4)], control=False, epochs=1)
    assert result.outcomes["student"].policies[0].weights.tolist() == [0.5, 0.5]


def test_what_is_wrong_is_said_before_training() -> None:
    with pytest.raises(ValueError, match="policy 'ddk' needs domains in the training data, and they have none"):
        trained(net, eyes(), scenes(8, 0), ["ddk"])
    with pytest.raises(ValueError, match="policy 'ddk' needs a teacher: give teacher="):
        trained(net, None, ConcatDataset([scenes(4, 0)] * 2), ["ddk"])
    blank = [(image, torch.full_like(label, 255)) for image, label in scenes(4, 0)]
    with pytest.raises(ValueError, match="no label counts in 4 images of the domain 1: with gap='teacher'"):
        trained(net, eyes(), ConcatDataset([scenes(4, 0), blank]), ["ddk"])
    with pytest.raises(ValueError, match="domain_weights: floor must lie in"):
        trained(net, eyes(), scenes(4, 0), [dict(type="ddk", floor=1.5)])

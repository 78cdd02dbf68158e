from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlosses.rules.similar import source_weights, task_similarity


def test_similarity_is_the_kernel_alignment_with_the_labels() -> None:
    features, labels = torch.randn(40, 6), torch.randint(4, (40,))
    x = features.numpy().astype(float)
    x -= x.mean(0)
    y = np.eye(4)[labels.numpy()]
    y -= y.mean(0)
    expected = np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    assert task_similarity(features, labels, 4).item() == pytest.approx(expected, rel=1e-5)


def test_a_source_of_the_same_task_is_nearest_and_all_are_shares() -> None:
    labels = torch.randint(4, (200,))
    same = torch.eye(4)[labels] + 0.1 * torch.randn(200, 4)
    coarse = torch.eye(2)[labels % 2] + 0.1 * torch.randn(200, 2)
    noise = torch.randn(200, 4)
    found = [task_similarity(f, labels, 4).item() for f in (same, coarse, noise)]
    assert 1 > found[0] > found[1] > found[2] >= 0


def test_powers_go_from_uniform_to_the_nearest() -> None:
    similarity = torch.tensor([0.2, 0.5, 0.4])
    torch.testing.assert_close(source_weights(similarity, 0.0), torch.full((3,), 1 / 3))
    torch.testing.assert_close(source_weights(similarity, 2.0), similarity**2 / (similarity**2).sum())
    torch.testing.assert_close(source_weights(similarity, 200.0), source_weights(similarity, nearest=True))
    assert source_weights(similarity, nearest=True).tolist() == [0, 1, 0]
    assert source_weights(torch.zeros(2)).tolist() == [0.5, 0.5]

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdlosses.class_means import ClassMeans, class_means


def test_mean_of_everything_seen() -> None:
    rng = np.random.default_rng(0)
    f, y, w = rng.normal(size=(30, 3)), rng.integers(0, 4, 30), rng.random(30)
    y[y == 2] = 1  # class 2 is never seen
    means = ClassMeans(classes=4, channels=3).double()
    for part in np.split(np.arange(30), 5):
        means.update(*(torch.from_numpy(x[part]) for x in (f, y, w)))
    for c in (0, 1, 3):
        expected = np.average(f[y == c], axis=0, weights=w[y == c])
        np.testing.assert_allclose(means.mean[c].numpy(), expected, rtol=1e-10)
    assert (means.mean[2] == 0).all()
    np.testing.assert_allclose(means.seen.numpy(), np.bincount(y, w, minlength=4), rtol=1e-10)


def test_momentum_moves_only_the_classes_of_the_batch() -> None:
    means = ClassMeans(classes=2, channels=1, momentum=0.9)
    for value in (10.0, 20.0):
        means.update(torch.tensor([[value]]), torch.tensor([0]), torch.ones(1))
    assert means.mean.flatten().tolist() == [11.0, 0.0]


def test_masked_rows_do_not_enter() -> None:
    f = torch.tensor([[1.0], [float("nan")]])
    mean, number = class_means(f, torch.tensor([0, 0]), torch.tensor([True, False]), 1)
    assert mean.item() == 1.0
    assert number.item() == 1.0


def test_stands_in_the_checkpoint_and_is_not_trained() -> None:
    means = ClassMeans(classes=2, channels=3)
    means.update(torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 1]), torch.ones(5))
    other = ClassMeans(classes=2, channels=3)
    other.load_state_dict(means.state_dict())
    torch.testing.assert_close(other.mean, means.mean)
    assert not list(means.parameters())


def test_wrong_momentum_raises() -> None:
    with pytest.raises(ValueError, match="momentum"):
        ClassMeans(2, 3, momentum=1.0)


def test_moved_keeps_nothing() -> None:
    means, rows = ClassMeans(classes=2, channels=3), (torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 1]), torch.ones(5))
    mean, seen = means.moved(*class_means(*rows, classes=2))
    assert (means.mean == 0).all()
    means.update(*rows)
    torch.testing.assert_close((means.mean, means.seen), (mean, seen))

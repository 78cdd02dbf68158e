from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

import kdlosses


def test_value_is_that_of_the_formula() -> None:
    s, t = torch.randn(15, 3, dtype=torch.float64), 2 * torch.randn(15, 6, dtype=torch.float64)
    labels, w = torch.randint(-1, 3, (15,)), torch.randint(0, 3, (15,)).double()
    nearness, predictions = [], []
    for z in np.split(t.numpy(), 2, axis=1):
        p, u = softmax(z, axis=1), z - z.mean(1, keepdims=True)
        near = np.zeros(15)
        for c in range(3):
            share = (labels.numpy() == c) * w.numpy() * p[:, c]
            mu = (share[:, None] * u).sum(0) / share.sum()
            near += p[:, c] * (u @ mu) / np.linalg.norm(u, axis=1) / np.linalg.norm(mu)
        nearness.append(near)
        predictions.append(p)
    a = softmax(np.stack(nearness, 1) / 0.2, axis=1)
    target = sum(a[:, [e]] * p for e, p in enumerate(predictions))
    expected = w.numpy() @ rel_entr(target, softmax(s.numpy(), axis=1)).sum(1) / w.sum().item()
    loss = kdlosses.build(dict(type="mulki", temperature=0.2))
    assert loss(s, t, labels=labels, weight=w).item() == pytest.approx(expected)


def test_a_hot_temperature_is_the_average() -> None:
    s, t, labels = torch.randn(9, 3), torch.randn(9, 6), torch.randint(3, (9,))
    hot = kdlosses.build(dict(type="mulki", temperature=1e6))
    torch.testing.assert_close(hot(s, t, labels=labels), kdlosses.build("average")(s, t))


def test_the_order_of_teachers_and_of_classes_cannot_matter() -> None:
    s, t, labels = torch.randn(9, 3), torch.randn(9, 6), torch.randint(-1, 3, (9,))
    loss = kdlosses.build("mulki")
    torch.testing.assert_close(loss(s, t.roll(3, 1), labels=labels), loss(s, t, labels=labels))
    order = torch.tensor([2, 0, 1])
    renamed = torch.where(labels >= 0, torch.argsort(order)[labels], -1)
    both = t.unflatten(1, (2, 3))[:, :, order].flatten(1)
    torch.testing.assert_close(loss(s[:, order], both, labels=renamed), loss(s, t, labels=labels))


def test_the_teacher_that_knows_the_class_is_heard() -> None:
    """Two teachers of two classes each; what one does not know it spreads over what it knows."""
    labels = torch.arange(4).repeat(10)
    truth = 6 * torch.nn.functional.one_hot(labels, 4).float()
    blur = torch.rand(40, 4)
    first = torch.where((labels < 2)[:, None], truth, blur * torch.tensor([4.0, 4.0, 0.0, 0.0]))
    second = torch.where((labels >= 2)[:, None], truth, blur * torch.tensor([0.0, 0.0, 4.0, 4.0]))
    t = torch.cat([first, second], 1)
    near, far = (kdlosses.build(dict(type=name))(truth, t, labels=labels) for name in ("mulki", "average"))
    assert near < far / 2


def test_a_batch_without_labels_is_the_average() -> None:
    s, t = torch.randn(9, 3), torch.randn(9, 6)
    found = kdlosses.build("mulki")(s, t, labels=torch.full((9,), -1))
    torch.testing.assert_close(found, kdlosses.build("average")(s, t))

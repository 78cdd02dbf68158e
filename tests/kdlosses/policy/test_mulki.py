from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

import kdlosses

ALONE = dict(elicit=0.0, add=0.0, connect=0.0)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_each_stage_is_its_formula_over_the_classes_that_are_there() -> None:
    s, t = torch.randn(15, 4, dtype=torch.float64), 2 * torch.randn(15, 4, dtype=torch.float64)
    labels, w = torch.randint(-1, 3, (15,)), torch.randint(1, 3, (15,)).double()  # no sample of class 3
    p = softmax(t.numpy(), axis=1)
    u = {name: z.numpy() - z.numpy().mean(1, keepdims=True) for name, z in (("s", s), ("t", t))}
    mu = {}
    for name in u:
        share = np.stack([(labels.numpy() == c) * w.numpy() * p[:, c] for c in range(3)])
        mu[name] = unit((share @ u[name]) / share.sum(1, keepdims=True))
    r = {a + b: softmax(unit(u[a]) @ mu[b].T / 0.5, axis=1) for a, b in ("ss", "st", "tt")}
    mean = w.numpy() / w.sum().item()
    expected = {
        "elicit": (1 - (mu["s"] * mu["t"]).sum(1)).mean(),
        "add": mean @ sum(rel_entr(r["tt"], r[each]).sum(1) for each in ("ss", "st")),
        "connect": ((mu["s"] @ mu["s"].T - mu["t"] @ mu["t"].T) ** 2).mean(),
    }
    plain = kdlosses.build(dict(type="mulki", temperature=0.5, **ALONE))(s, t, labels=labels, weight=w)
    for stage, value in expected.items():
        loss = kdlosses.build({"type": "mulki", "temperature": 0.5, **ALONE, stage: 1.0})
        found = loss(s, t, labels=labels, weight=w) - plain
        assert found.item() == pytest.approx(value, rel=1e-4), stage


@pytest.mark.parametrize("stage", ["elicit", "add", "connect"])
def test_each_stage_brings_prototypes_of_two_tasks_where_the_teachers_have_them(stage: str) -> None:
    """Neither teacher has seen the classes of the other; labels and the loss on logits teach nothing here."""
    labels, generator = torch.arange(6).repeat(8), torch.Generator().manual_seed(0)
    tasks = torch.tensor([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]).float()
    truth = torch.nn.functional.one_hot(labels, 6).float() + 0.3 * (tasks[0][labels][:, None] == tasks[0])
    t = torch.cat([(5 * truth * task).where(task[labels][:, None] > 0, torch.zeros(())) for task in tasks], 1)
    zero = dict(type=lambda student, teacher, weight=None: 0 * student.sum())
    s = torch.randn(48, 6, generator=generator, requires_grad=True)
    measure = kdlosses.build(dict(type="mulki", loss=zero, elicit=1.0, add=1.0, connect=1.0))
    loss = kdlosses.build({"type": "mulki", "loss": zero, **ALONE, stage: 1.0})
    first, optimiser = measure(s, t, labels=labels).item(), torch.optim.Adam([s], 0.1)
    for _ in range(60):
        optimiser.zero_grad()
        loss(s, t, labels=labels).backward()
        optimiser.step()
    assert loss(s, t, labels=labels) < 0.05
    assert measure(s, t, labels=labels) < 0.8 * first  # `connect` turns no side towards the other


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
    loss = kdlosses.build(dict(type="mulki", temperature=0.2, **ALONE))
    assert loss(s, t, labels=labels, weight=w).item() == pytest.approx(expected)


def test_a_hot_temperature_is_the_average() -> None:
    s, t, labels = torch.randn(9, 3), torch.randn(9, 6), torch.randint(3, (9,))
    hot = kdlosses.build(dict(type="mulki", temperature=1e6, **ALONE))
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
    specs = dict(type="mulki", **ALONE), "average"
    near, far = (kdlosses.build(spec)(truth, t, labels=labels) for spec in specs)
    assert near < far / 2


def test_a_batch_without_labels_is_the_average() -> None:
    s, t = torch.randn(9, 3), torch.randn(9, 6)
    found = kdlosses.build("mulki")(s, t, labels=torch.full((9,), -1))
    torch.testing.assert_close(found, kdlosses.build("average")(s, t))

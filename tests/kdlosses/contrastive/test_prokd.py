from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from sklearn.metrics.pairwise import cosine_similarity

from kdlosses import ProKD

CONTRACT = LossContract(
    "prokd",
    options=dict(ignore_index=3),
    no_fixed_point="it aligns two domains of the student; the teacher names the classes of one",
    no_teacher="the teacher only names the classes of positions without a label",
)


def means(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.stack([np.average(x[y == c], axis=0, weights=w[y == c]) for c in range(3)])


def align(mu_a: np.ndarray, mu_b: np.ndarray, tau: float = 0.1) -> float:
    near = cosine_similarity(mu_a, mu_b) / tau
    return np.mean(logsumexp(near, axis=1) - near.diagonal())


def test_formula_over_two_batches() -> None:
    rng = np.random.default_rng(0)
    loss, banks = ProKD(classes=3, channels=4).double(), None
    for _ in range(2):
        s, w = rng.normal(size=(30, 4)), rng.random(30)
        y, domain_a = np.arange(30) % 3, np.arange(30) < 15
        logits = np.eye(3)[y] + 0.1 * rng.normal(size=(30, 3))
        labels = np.where(domain_a, y, np.where(np.arange(30) % 2, 255, -1))
        new = [means(s[part], y[part], w[part]) for part in (domain_a, ~domain_a)]
        banks = new if banks is None else [0.9 * old + 0.1 * mu for old, mu in zip(banks, new)]
        value = loss(*map(torch.from_numpy, (s, logits)), labels=torch.from_numpy(labels), weight=torch.from_numpy(w))
        np.testing.assert_allclose(value.item(), align(*banks), rtol=1e-8)
    square = cdist(s, banks[1], "sqeuclidean")
    np.testing.assert_allclose(loss.prototype_logits(torch.from_numpy(s), tau=2.0).numpy(), -square / 2, rtol=1e-8)


def test_least_if_prototypes_coincide_and_are_apart() -> None:
    s, teacher = torch.eye(3).repeat(2, 1), torch.eye(3).repeat(2, 1)
    labels = torch.tensor([0, 1, 2, 255, 255, 255])
    assert ProKD(classes=3, channels=3)(s, teacher, labels=labels) < 1e-3
    assert ProKD(classes=3, channels=3)(torch.ones(6, 3), teacher, labels=labels) > 1


def test_order_of_the_classes_cannot_matter() -> None:
    s, teacher = torch.randn(40, 4), torch.randn(40, 3)
    labels, order = torch.arange(40) % 3, torch.tensor([2, 0, 1])
    labels[20:] = 255
    moved = torch.where(labels == 255, labels, torch.argsort(order)[labels % 3])
    value = ProKD(classes=3, channels=4)(s, teacher, labels=labels)
    torch.testing.assert_close(ProKD(classes=3, channels=4)(s, teacher[:, order], labels=moved), value)


def test_classes_that_a_domain_lacks_drop_out() -> None:
    s, teacher = torch.randn(8, 4, requires_grad=True), torch.eye(3)[torch.tensor([0, 1, 2, 0, 0, 1, 0, 1])]
    labels = torch.tensor([0, 1, 2, 255, 255, 255, 255, 255])  # domain B has no class 2
    value = ProKD(classes=3, channels=4)(s, teacher, labels=labels)
    value.backward()
    assert value.isfinite()
    assert (s.grad[2] == 0).all()
    loss = ProKD(classes=3, channels=4)
    assert loss(s, teacher, labels=torch.zeros(8, dtype=torch.long)) == 0  # no domain B at all
    assert loss.prototype_logits(s).isfinite().all()


def test_evaluation_leaves_the_prototypes() -> None:
    loss, labels = ProKD(classes=3, channels=4), torch.tensor([0, 1, 2, 255, 255, 255])
    teacher = torch.eye(3).repeat(2, 1)
    loss(torch.randn(6, 4), teacher, labels=labels)
    before = loss.unlabelled.mean.clone()
    loss.eval()(torch.randn(6, 4), teacher, labels=labels)
    torch.testing.assert_close(loss.unlabelled.mean, before)


def test_wrong_momentum_raises() -> None:
    with pytest.raises(ValueError, match="momentum"):
        ProKD(classes=3, channels=4, momentum=2.0)

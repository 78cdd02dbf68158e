from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, softmax
from sklearn.decomposition import PCA

from kdlosses import LELP, kl

CONTRACT = LossContract(
    "lelp",
    no_fixed_point="the teacher is an embedding, the student logits",
)

RNG = np.random.default_rng(0)
W, B, H = RNG.normal(size=(2, 8)), RNG.normal(size=2), RNG.normal(size=(60, 8)) * np.arange(1, 9)
Z = H @ W.T + B


def build(subclasses: int = 3, **options: float) -> LELP:
    loss = LELP(2 * subclasses, teacher_channels=8, classes=2, **options).double()  # type: ignore[arg-type]
    loss.observe(torch.from_numpy(H), torch.from_numpy(Z))
    loss.fit()
    return loss


def drawn(n: int = 9) -> tuple[np.ndarray, np.ndarray]:
    h = RNG.normal(size=(n, 8)) * 3
    return h, h @ W.T + B


def test_targets_follow_the_principal_directions_of_each_class() -> None:
    loss = build(subclass_tau=2.0)
    turn = torch.Generator().manual_seed(0)
    h, z = drawn()
    target = loss.targets(torch.from_numpy(h), torch.from_numpy(z)).numpy()
    p = softmax(z, axis=1)
    np.testing.assert_allclose(target.sum(2), p, rtol=1e-5)
    seen = (W[0] - W[1]) / np.linalg.norm(W[0] - W[1])
    unseen = np.eye(8) - np.outer(seen, seen)
    for c in range(2):
        own = (H @ unseen)[Z.argmax(1) == c]
        pca = PCA(n_components=3).fit(own)
        q = torch.linalg.qr(torch.randn(3, 3, generator=turn, dtype=torch.float64)).Q.numpy()
        sigma = np.sqrt((pca.transform(own) ** 2).mean())
        found = loss.directions[3 * c : 3 * c + 3].numpy() * sigma
        np.testing.assert_allclose(np.abs(q.T @ found), np.abs(pca.components_), rtol=1e-4, atol=1e-6)
        score = (h @ unseen - pca.mean_) @ found.T / sigma
        np.testing.assert_allclose(target[:, c], p[:, c, None] * softmax(score / 2, axis=1), rtol=1e-4, atol=1e-7)


def test_formula() -> None:
    loss, s, (h, z), w = build(tau=2.0), RNG.normal(size=(9, 6)), drawn(), RNG.random(9)
    h, z = map(torch.from_numpy, (h, z))
    target = loss.targets(h, z).numpy().reshape(9, 6)
    each = -4 * (target * log_softmax(s / 2, axis=1)).sum(1)
    value = loss(torch.from_numpy(s), h, teacher_logits=z, weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_one_subclass_is_the_cross_entropy_form_of_kl() -> None:
    loss, s, (h, z) = build(1, tau=3.0), torch.randn(9, 2).double(), map(torch.from_numpy, drawn())
    entropy = torch.distributions.Categorical(logits=z / 3).entropy().mean()
    torch.testing.assert_close(loss(s, h, teacher_logits=z), kl(s, z, tau=3.0) + 9 * entropy)


def test_classifier_does_not_see_the_directions() -> None:
    loss = build()
    told = loss.directions @ torch.from_numpy(W).T
    torch.testing.assert_close(told[:, 0], told[:, 1], rtol=1e-5, atol=1e-6)  # what both classes share tells nothing


def test_the_first_steps_of_training_fit_and_teach_nothing() -> None:
    loss, s = LELP(6, teacher_channels=8, classes=2, fit_steps=2), torch.zeros(30, 6, requires_grad=True)
    halves = [(torch.from_numpy(H[k]).float(), torch.from_numpy(Z[k]).float()) for k in (slice(30), slice(30, 60))]
    assert loss.eval()(s, halves[0][0], teacher_logits=halves[0][1]) == 0
    assert loss.train()(s, halves[0][0], teacher_logits=halves[0][1]) == 0
    assert loss(s, halves[1][0], teacher_logits=halves[1][1]) > 1
    torch.testing.assert_close(loss.directions.double(), build().directions, rtol=1e-3, atol=1e-4)
    again = LELP(6, teacher_channels=8, classes=2, fit_steps=2)
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again(s, halves[0][0], teacher_logits=halves[0][1]), loss(s, *halves[0]))


def test_seed_settles_the_turn() -> None:
    h, z = map(torch.from_numpy, drawn())
    torch.testing.assert_close(build(seed=3).targets(h, z), build(seed=3).targets(h, z))
    assert not torch.allclose(build(seed=4).targets(h, z), build(seed=3).targets(h, z))


def test_class_without_embeddings_takes_the_directions_of_all() -> None:
    loss = LELP(6, teacher_channels=8, classes=2)
    loss.observe(torch.from_numpy(H), torch.from_numpy(Z - [0.0, 1000.0]))
    loss.fit()
    assert loss.directions.isfinite().all()
    assert loss.directions[3:].abs().max() > 0


def test_what_does_not_fit_raises() -> None:
    with pytest.raises(ValueError, match="8 subclasses do not fit: a classifier of 2 classes leaves 7 of 8 directions"):
        LELP(16, teacher_channels=8, classes=2)
    with pytest.raises(ValueError, match="the student has 7 logits, no multiple of 2 classes"):
        LELP(7, teacher_channels=8, classes=2)
    with pytest.raises(ValueError, match="teacher_logits of 2 classes"):
        build()(torch.randn(4, 6).double(), torch.randn(4, 8).double(), teacher_logits=torch.randn(4, 3).double())

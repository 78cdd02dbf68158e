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
    options=dict(head_weight=np.eye(5)[[0, 1, 2, 3, 3]], head_bias=np.zeros(5), embeddings=np.eye(5), subclasses=1),
    no_fixed_point="the teacher is an embedding, the student logits",
    no_two_classes="it is built for the classes of a fitted classifier",
)

RNG = np.random.default_rng(0)
W, B, H = RNG.normal(size=(2, 8)), RNG.normal(size=2), RNG.normal(size=(60, 8)) * np.arange(1, 9)


def build(**options: float) -> LELP:
    return LELP(W, B, H, subclasses=3, **options).double()  # type: ignore[arg-type]


def test_targets_follow_the_principal_directions_of_each_class() -> None:
    loss = build(subclass_tau=2.0)
    turn = torch.Generator().manual_seed(0)
    h = RNG.normal(size=(9, 8)) * 3
    target = loss.targets(torch.from_numpy(h)).numpy()
    p = softmax(h @ W.T + B, axis=1)
    np.testing.assert_allclose(target.sum(2), p, rtol=1e-5)
    unseen = np.eye(8) - W.T @ np.linalg.solve(W @ W.T, W)
    for c in range(2):
        own = (H @ unseen)[(H @ W.T + B).argmax(1) == c]
        pca = PCA(n_components=3).fit(own)
        q = torch.linalg.qr(torch.randn(3, 3, generator=turn, dtype=torch.float64)).Q.numpy()
        sigma = np.sqrt((pca.transform(own) ** 2).mean())
        sign = np.sign(np.diag(pca.components_ @ np.linalg.svd(own - own.mean(0))[2][:3].T))  # that of PCA is its own
        score = (pca.transform(h @ unseen) * sign) @ q.T / sigma
        np.testing.assert_allclose(target[:, c], p[:, c, None] * softmax(score / 2, axis=1), rtol=1e-4, atol=1e-7)


def test_formula() -> None:
    loss, s, h, w = build(tau=2.0), RNG.normal(size=(9, 6)), RNG.normal(size=(9, 8)), RNG.random(9)
    target = loss.targets(torch.from_numpy(h)).numpy().reshape(9, 6)
    each = -4 * (target * log_softmax(s / 2, axis=1)).sum(1)
    value = loss(*map(torch.from_numpy, (s, h)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), np.average(each, weights=w), rtol=1e-10)


def test_one_subclass_is_the_cross_entropy_form_of_kl() -> None:
    loss = LELP(W, B, H, subclasses=1, tau=3.0).double()
    s, h = torch.randn(9, 2).double(), torch.randn(9, 8).double()
    logits = h @ loss.head_weight.T + loss.head_bias
    entropy = torch.distributions.Categorical(logits=logits / 3).entropy().mean()
    torch.testing.assert_close(loss(s, h), kl(s, logits, tau=3.0) + 9 * entropy)


def test_classifier_does_not_see_the_directions() -> None:
    loss = build()
    h = torch.randn(5, 8).double()
    moved = h + torch.randn(5, 6).double() @ loss.directions
    torch.testing.assert_close(loss.targets(moved).sum(2), loss.targets(h).sum(2), rtol=1e-5, atol=1e-7)
    assert not torch.allclose(loss.targets(moved), loss.targets(h), rtol=1e-2)


def test_class_logits_add_up_the_subclasses() -> None:
    loss, s = build(), torch.randn(2, 6, 4, 4).double()
    p = s.softmax(1).unflatten(1, (2, 3)).sum(2)
    torch.testing.assert_close(loss.class_logits(s).softmax(1), p)


def test_seed_and_checkpoint_settle_the_turn() -> None:
    h = torch.randn(5, 8).double()
    torch.testing.assert_close(build(seed=3).targets(h), build(seed=3).targets(h))
    other = build(seed=4)
    assert not torch.allclose(other.targets(h), build(seed=3).targets(h))
    other.load_state_dict(build(seed=3).state_dict())
    torch.testing.assert_close(other.targets(h), build(seed=3).targets(h))


def test_class_without_embeddings_takes_the_directions_of_all() -> None:
    loss = LELP(W, [100.0, -100.0], H, subclasses=3)
    assert loss.targets(torch.randn(5, 8)).isfinite().all()


def test_what_does_not_fit_raises() -> None:
    with pytest.raises(ValueError, match="7 subclasses do not fit: the classifier leaves 6 directions of 8"):
        LELP(W, B, H, subclasses=7)
    with pytest.raises(ValueError, match=r"got \(2, 8\), \(3,\) and \(60, 8\)"):
        LELP(W, np.zeros(3), H, subclasses=2)
    with pytest.raises(ValueError, match="expected 6 logits and embeddings of 8 channels"):
        build()(torch.randn(4, 5).double(), torch.randn(4, 8).double())

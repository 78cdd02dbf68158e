from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, logsumexp, rel_entr, softmax
from sklearn.metrics.pairwise import cosine_similarity
from torch import Tensor

from kdlosses import ProKD

CONTRACT = LossContract(
    "prokd",
    options=dict(ignore_index=3),
    no_fixed_point="what it teaches are distances to prototypes, not the teacher's logits",
)


def means(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    return np.stack([np.average(x[y == c], axis=0, weights=w[y == c]) for c in range(3)])


def test_formula_over_two_batches() -> None:
    rng = np.random.default_rng(0)
    loss, banks = ProKD(classes=3, teacher_channels=4).double(), None
    g = 0.3 * rng.normal(size=(4, 4))
    with torch.no_grad():
        loss.align.weight.copy_(torch.from_numpy(g))
    for _ in range(2):
        s, f, w = rng.normal(size=(30, 3)), rng.normal(size=(30, 4)), rng.random(30)
        y, domain_a = np.arange(30) % 3, np.arange(30) < 15
        logits = np.eye(3)[y] + 0.1 * rng.normal(size=(30, 3))
        labels = np.where(domain_a, y, np.where(np.arange(30) % 2, 255, -1))
        h = f + f @ g.T
        new = [means(h[part], y[part], w[part]) for part in (domain_a, ~domain_a)]
        banks = new if banks is None else [0.9 * old + 0.1 * mu for old, mu in zip(banks, new)]
        near = cosine_similarity(*banks) / 0.1
        align = np.mean(logsumexp(near, axis=1) - near.diagonal())
        p = softmax(cosine_similarity(h, banks[1]) / 0.1, axis=1)
        teach = rel_entr(p, np.exp(log_softmax(s, axis=1))).sum(1)
        s_, f_, logits_, labels_, w_ = map(torch.from_numpy, (s, f, logits, labels, w))
        value = loss(s_, f_, labels=labels_, teacher_logits=logits_, weight=w_)
        np.testing.assert_allclose(value.item(), align + np.average(teach, weights=w * ~domain_a), rtol=1e-8)
    np.testing.assert_allclose(loss.targets(f_).exp().numpy(force=True), p, rtol=1e-8)


def two_domains() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of a teacher in two domains, B shifted and turned, its logits, fit to A alone, and the true classes."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(400) % 4
    features = 2 * torch.eye(4, 6)[y] + 0.5 * torch.randn(400, 6, generator=draw)
    features[200:] += torch.tensor([0.0, 1.2, 0.0, -0.6, 2.0, 0.0])
    logits = 4 * features[:, :4]
    return features, logits, y, torch.where(torch.arange(400) < 200, y, 255)


def test_it_is_the_teacher_that_is_aligned() -> None:
    """Prototypes of a class come together over the domains, and apart from other classes; the student has no say."""
    features, logits, y, labels = two_domains()

    def alignment(loss: ProKD) -> Tensor:
        h = loss._aligned(features).detach()
        mu = [torch.stack([h[part][y[part] == c].mean(0) for c in range(4)]) for part in (labels < 255, labels == 255)]
        return torch.from_numpy(cosine_similarity(*(x.numpy() for x in mu)))

    after = []
    for student in (torch.zeros(400, 4), torch.randn(400, 4)):
        torch.manual_seed(0)
        loss = ProKD(classes=4, teacher_channels=6)
        before = alignment(loss)
        optimiser = torch.optim.Adam(loss.parameters(), lr=0.01)
        for _ in range(200):
            optimiser.zero_grad()
            loss(student, features, labels=labels, teacher_logits=logits).backward()
            optimiser.step()
        after.append(alignment(loss))
    assert after[0].equal(after[1])
    own, others = torch.eye(4, dtype=torch.bool), ~torch.eye(4, dtype=torch.bool)
    assert after[0][own].min() > 0.85 > 0.7 > before[own].min()
    assert after[0][others].mean() < before[others].mean() - 0.2


def test_distances_to_prototypes_correct_a_teacher_in_the_other_domain() -> None:
    """The student ends above its teacher in domain B, of which it has no label."""
    features, logits, y, labels = two_domains()
    loss, student = ProKD(classes=4, teacher_channels=6), torch.nn.Linear(6, 4)
    optimiser = torch.optim.Adam([*loss.parameters(), *student.parameters()], lr=0.01)
    for _ in range(200):
        optimiser.zero_grad()
        loss(student(features), features, labels=labels, teacher_logits=logits).backward()
        optimiser.step()
    right, taught = ((x.argmax(1) == y)[200:].float().mean() for x in (logits, student(features)))
    assert right < 0.85
    assert taught > right + 0.05


def test_the_student_trains_itself_on_what_prototypes_confirm() -> None:
    """Taught alone it ends at the distances; with labels of its own it goes beyond, where both are sure, once begun."""
    features, logits, _, labels = two_domains()
    told = dict(labels=labels, teacher_logits=logits)
    first = ProKD(classes=4, teacher_channels=6, tau=0.2)
    first(torch.zeros(400, 4), features, **told)
    p = first.targets(features)[200:].exp().detach()  # G stays the identity: prototypes are the same for all
    confirmed = (p * p / (p * p).sum(1, keepdim=True)).max(1).values
    kappa = confirmed.median().item()
    found = {}
    for name, weight, progress in (("taught", 0.0, 1.0), ("early", 1.0, 0.4), ("own", 1.0, 0.6)):
        loss = ProKD(classes=4, teacher_channels=6, tau=0.2, self_training=weight, kappa=kappa)
        z = torch.zeros(400, 4, requires_grad=True)
        optimiser = torch.optim.Adam([z], lr=0.05)
        for _ in range(300):
            optimiser.zero_grad()
            loss(z, features, **told, progress=progress).backward()
            optimiser.step()
        found[name] = z.detach()[200:].softmax(1)
    torch.testing.assert_close(found["taught"], p, atol=0.02, rtol=0)
    assert torch.equal(found["taught"], found["early"])
    sure, unsure = confirmed > kappa + 0.02, confirmed < kappa - 0.15  # on its way the student is surer than it ends
    assert sure.sum() > 50
    assert unsure.sum() > 10
    assert (1 - found["own"].max(1).values < 0.7 * (1 - p.max(1).values))[sure].all()
    assert torch.equal(found["own"].argmax(1)[sure], p.argmax(1)[sure])
    torch.testing.assert_close(found["own"][unsure], p[unsure], atol=0.02, rtol=0)


def test_value_of_its_own_labels() -> None:
    rng = np.random.default_rng(1)
    s, f, w = rng.normal(size=(30, 3)), rng.normal(size=(30, 4)), rng.random(30)
    told = dict(labels=torch.arange(30) % 3, teacher_logits=torch.eye(3, dtype=torch.double)[torch.arange(30) % 3])
    told["labels"][15:] = -1
    values = []
    for weight in (0.0, 2.0):
        loss = ProKD(classes=3, teacher_channels=4, tau=0.5, self_training=weight, kappa=0.5).double()
        values.append(loss(*map(torch.from_numpy, (s, f)), weight=torch.from_numpy(w), **told).item())
    p, q = loss.targets(torch.from_numpy(f)).exp().numpy(force=True), softmax(s, axis=1)
    r = p * q / (p * q).sum(1, keepdims=True)
    each = np.where(r.max(1) >= 0.5, -np.log(q[np.arange(30), r.argmax(1)]), 0)
    np.testing.assert_allclose(values[1] - values[0], 2 * np.average(each[15:], weights=w[15:]), rtol=1e-8)


def test_logits_of_a_map_come_at_any_size() -> None:
    loss = ProKD(classes=3, teacher_channels=4)
    labels = torch.randint(3, (2, 4, 6))
    labels[1] = 255
    value = loss(
        torch.randn(2, 3, 4, 6), torch.randn(2, 4, 4, 6), labels=labels, teacher_logits=torch.randn(2, 3, 8, 12)
    )
    assert value.isfinite()


def test_classes_that_a_domain_lacks_drop_out() -> None:
    s, features = torch.randn(8, 3, requires_grad=True), torch.randn(8, 4)
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 0, 0, 1, 0, 1])]
    labels = torch.tensor([0, 1, 2, 255, 255, 255, 255, 255])  # domain B has no class 2
    loss = ProKD(classes=3, teacher_channels=4)
    value = loss(s, features, labels=labels, teacher_logits=logits)
    value.backward()
    assert value.isfinite()
    assert (s.grad[:3] == 0).all()  # domain A has its labels
    assert (loss.targets(features).exp()[:, 2] == 0).all()
    loss = ProKD(classes=3, teacher_channels=4)
    all_known = torch.zeros(8, dtype=torch.long)
    assert loss(s, features, labels=all_known, teacher_logits=logits) == 0  # no domain B at all
    assert loss.targets(features).isfinite().all()


def test_evaluation_leaves_the_prototypes() -> None:
    loss, labels = ProKD(classes=3, teacher_channels=4), torch.tensor([0, 1, 2, 255, 255, 255])
    told = dict(labels=labels, teacher_logits=torch.eye(3).repeat(2, 1))
    loss(torch.randn(6, 3), torch.randn(6, 4), **told)
    before = loss.unlabelled.mean.clone()
    loss.eval()(torch.randn(6, 3), torch.randn(6, 4), **told)
    torch.testing.assert_close(loss.unlabelled.mean, before)


def test_another_number_of_classes_is_named() -> None:
    loss, told = ProKD(classes=3, teacher_channels=4), dict(labels=torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"built for 3 classes, one a channel, got student \(2, 5\)"):
        loss(torch.randn(2, 5), torch.randn(2, 4), teacher_logits=torch.randn(2, 3), **told)
    with pytest.raises(ValueError, match=r"built for 3 classes, one a channel, got teacher_logits \(2, 5\)"):
        loss(torch.randn(2, 3), torch.randn(2, 4), teacher_logits=torch.randn(2, 5), **told)


def test_wrong_momentum_raises() -> None:
    with pytest.raises(ValueError, match="momentum"):
        ProKD(classes=3, teacher_channels=4, momentum=2.0)

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, rel_entr, softmax

import kdlosses
from kdlosses.policy.tgeo import TGeo

CONTRACT = LossContract(
    "tgeo",
    no_fixed_point="it holds the loss of the labels",
    entropy="likewise",
    stopped="the ratio is a constant, though it sees the student",
)


def built(classes: int = 3, seed: int = 0) -> TGeo:
    torch.manual_seed(seed)
    loss = kdlosses.build("tgeo", classes=classes).loss
    assert isinstance(loss, TGeo)
    return loss


def test_value_is_that_of_the_formula() -> None:
    s, t = (torch.randn(20, 3, dtype=torch.float64) for _ in range(2))
    labels, w = torch.randint(3, (20,)), torch.randint(0, 3, (20,)).double()
    labels[:4] = 255
    loss = built().double()
    found = loss(s, t, labels=labels, weight=w)
    known = labels.numpy() != 255
    p, q, y = softmax(t.numpy(), 1), softmax(s.numpy(), 1), np.where(known, labels.numpy(), 0)
    share = (w.numpy() * known)[:, None]
    means = np.stack([(share * p)[y == c].sum(0) / share[y == c].sum() for c in range(3)])
    g, m = np.eye(3)[y], means[y]
    inputs = np.concatenate([q, p, g, m, (m - q) ** 2, (g - q) ** 2, (p - q) ** 2, (p - g) ** 2, (m - g) ** 2], 1)
    a = torch.sigmoid(loss.ratio.net(torch.from_numpy(inputs))).detach().numpy()[:, 0]
    counted = w.numpy() * known
    a = np.where(counted > 0, a, a @ counted / counted.sum())
    hard = -log_softmax(s.numpy(), 1)[np.arange(20), y] * known
    each = (1 - a) * hard + a * rel_entr(p, q).sum(1)
    assert found.item() == pytest.approx(w.numpy() @ each / w.numpy().sum())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_fixed_ratio_is_the_usual_mixture(share: float) -> None:
    s, t, labels = torch.randn(9, 3), torch.randn(9, 3), torch.randint(3, (9,))
    found = built().fused(s, t, labels, torch.full((9,), share))
    expected = (1 - share) * torch.nn.functional.cross_entropy(s, labels) + share * kdlosses.kl(s, t)
    torch.testing.assert_close(found, expected)


def test_the_loss_does_not_train_the_ratio() -> None:
    loss, s = built(), torch.randn(9, 3, requires_grad=True)
    loss(s, torch.randn(9, 3), labels=torch.randint(3, (9,))).backward()
    assert s.grad is not None
    assert all(each.grad is None and not each.requires_grad for each in loss.ratio.parameters())


def test_a_pixel_is_a_node() -> None:
    s, t, labels = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.randint(3, (2, 4, 4))
    rows = [each.movedim(1, -1).flatten(0, -2) for each in (s, t)]
    maps, nodes = built()(s, t, labels=labels), built()(*rows, labels=labels.flatten())
    torch.testing.assert_close(maps, nodes)


def test_without_labels_the_teacher_alone_teaches() -> None:
    s, t = torch.randn(9, 3), torch.randn(9, 3)
    torch.testing.assert_close(built()(s, t, labels=torch.full((9,), 255)), kdlosses.kl(s, t))


def test_other_classes_are_named() -> None:
    with pytest.raises(ValueError, match="tgeo: built for 3 classes, the logits have 4"):
        built()(torch.zeros(2, 4), torch.zeros(2, 4), labels=torch.zeros(2, dtype=torch.long))


def test_a_loss_without_a_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="tgeo: the loss 'inverse' has no argument weight"):
        kdlosses.build(dict(type="tgeo", loss=inverse, classes=3))


def inverse(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return (student - teacher).mean()

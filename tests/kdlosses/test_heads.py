from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kdlosses.heads import HEADS, HeadSpec, head_spec, label_loss

NODES, MAPS = torch.randn(6, 4), torch.randn(2, 4, 5, 7)


class Own(nn.Linear):
    """A head of one's own, for nodes."""


class Silent(nn.Module):
    """It makes no logits."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize("name", sorted(HEADS))
@pytest.mark.parametrize("feature", [NODES, MAPS, torch.randn(2, 4, 9)], ids=["nodes", "maps", "tokens"])
def test_logits_of_every_position_from_the_feature_alone(name: str, feature: Tensor) -> None:
    head = head_spec(name).build(feature, classes=3)
    x = feature.clone().requires_grad_()
    logits = head(x)
    assert logits.shape == (len(feature), 3, *feature.shape[2:])
    logits.sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(weight.grad is not None for weight in head.parameters())


@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_a_map_is_its_pixels_as_nodes(name: str) -> None:
    head = head_spec(name).build(MAPS, classes=3)
    rows = head(MAPS.movedim(1, -1).reshape(-1, 4))
    torch.testing.assert_close(head(MAPS).movedim(1, -1).reshape(-1, 3), rows)


def test_a_branch_sees_the_neighbours_that_the_others_do_not() -> None:
    x = MAPS[:1].clone().requires_grad_()
    reach = {}
    for name in ("mlp", "branch"):
        (gradient,) = torch.autograd.grad(head_spec(name).build(x, 3)(x)[0, :, 2, 3].sum(), x)
        reach[name] = int((gradient.abs().sum(1) > 0).sum())
    assert reach == {"mlp": 1, "branch": 25}  # two convolutions of 3x3


def test_options_and_classes_of_its_own() -> None:
    spec = head_spec(dict(type="mlp", wide=7, dropout=0.1, classes=9, label_loss=0.2))
    assert (spec.label_loss, spec.classes) == (0.2, 9)
    head = spec.build(NODES, classes=3)
    assert head(NODES).shape == (6, 9)
    assert head[0].weight.shape == (7, 4)
    assert isinstance(head_spec(Own).build(NODES, 3), Own)
    assert isinstance(head_spec(f"{__name__}:Own"), HeadSpec)
    assert head_spec("linear").build(NODES.double(), 3).weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("liner", KeyError, "no head is called 'liner'; did you mean 'linear'"),
        (dict(type="mlp", wides=3), TypeError, "head 'mlp' has no option 'wides'; did you mean 'wide'"),
        (dict(type="branch", axes=2), TypeError, "head 'branch' has no option 'axes'"),
        (dict(type="mlp", wide="3"), TypeError, "head 'mlp': wide must be a whole number"),
        (dict(type="mlp", dropout=2.0), ValueError, "head 'mlp': dropout must be at most 1"),
        (dict(type="linear", label_loss=-1.0), ValueError, "head 'linear': label_loss must be at least 0"),
        (dict(type="linear", classes=0), ValueError, "head 'linear': classes must be at least 1"),
        (dict(wide=3), TypeError, "a head dict needs a 'type'"),
        (nn.Linear(2, 3), TypeError, "a head is one of 'linear'"),
        (torch.relu, TypeError, "a head is one of 'linear'"),
        (nn.ReLU, TypeError, r"it is built as ReLU\(channels, classes"),
    ],
)
def test_what_is_no_head_is_named(spec: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        head_spec(spec)


def test_what_makes_no_logits_is_named() -> None:
    with pytest.raises(ValueError, match=r"must make logits \(6, 3\) of a feature \(6, 4\), it makes \(6, 4\)"):
        head_spec(Silent).build(NODES, classes=3)
    with pytest.raises(ValueError, match="stands on nodes"):
        head_spec("linear").build(torch.zeros(4), classes=3)


def test_its_own_loss_counts_labelled_positions() -> None:
    logits, labels = torch.randn(5, 3).double(), torch.tensor([2, -1, 0, 255, 1])
    p = logits.exp().numpy() / logits.exp().sum(1, keepdim=True).numpy()
    expected = -np.log([p[0, 2], p[2, 0], p[4, 1]]).mean()
    np.testing.assert_allclose(label_loss(logits, labels).item(), expected)

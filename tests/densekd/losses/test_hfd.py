"""Low-level features in the other network's kind: the cosine, and the translators against NumPy and torch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import softmax
from torch import nn

from densekd.losses import HFD

CONTRACT = LossContract(
    "hfd",
    no_fixed_point="a translator that is still to be learned stands between",
    one_channel="translated into the teacher's channels and compared by direction there",
)


def build(**options: object) -> HFD:
    torch.manual_seed(0)
    return HFD(student_channels=3, teacher_channels=8, **options).double()  # type: ignore[arg-type]


def maps(height: int = 5, width: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    s, t = (torch.randn(2, channels, height, width, dtype=torch.float64) for channels in (3, 8))
    return s.requires_grad_(), t


def test_attention_and_cosine() -> None:
    loss, (s, t) = build(), maps()
    state = {key: value.numpy() for key, value in loss.translate.state_dict().items()}
    x = np.einsum("oi,nihw->nhwo", state["project.weight"][:, :, 0, 0], s.detach().numpy()) + state["project.bias"]
    x = x.reshape(2, 30, 8)
    scaled = (x - x.mean(2, keepdims=True)) / np.sqrt(x.var(2, keepdims=True) + 1e-5)
    q, k, v = np.split(scaled @ state["qkv.weight"].T + state["qkv.bias"], 3, axis=2)
    heads = []
    for part in np.split(np.arange(8), 4):  # four heads of two channels
        scores = q[..., part] @ k[..., part].swapaxes(1, 2) / np.sqrt(2)
        heads.append(softmax(scores, 2) @ v[..., part])
    x = x + np.concatenate(heads, 2) @ state["out.weight"].T + state["out.bias"]
    y = t.numpy().reshape(2, 8, 30).swapaxes(1, 2)
    cosine = (x * y).sum(2) / np.linalg.norm(x, axis=2) / np.linalg.norm(y, axis=2)
    np.testing.assert_allclose(loss(s, t).item(), (1 - cosine).mean(), rtol=1e-6)


def test_convolutions() -> None:
    loss, (s, t) = build(translate="convolution"), maps()
    kinds = [type(part) for part in loss.translate.layers]
    assert kinds == 2 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert [part.kernel_size for part in loss.translate.layers if isinstance(part, nn.Conv2d)] == [(3, 3)] * 2
    found = nn.functional.cosine_similarity(loss.translate.layers(s), t, dim=1)
    torch.testing.assert_close(loss(s, t), 1 - found.mean())


@pytest.mark.parametrize("translate", ["attention", "convolution"])
def test_gradients_reach_student_and_translator_alone(translate: str) -> None:
    loss, (s, t) = build(translate=translate), maps()
    t.requires_grad_()
    loss(s, t).backward()
    assert t.grad is None
    assert s.grad.abs().sum() > 0
    assert all(p.grad is not None for p in loss.parameters())


def test_a_translated_twin_costs_nothing() -> None:
    loss, (s, _) = build(), maps()
    target = loss.translate(s, torch.ones(2, 5, 6, dtype=torch.float64))
    assert loss(s, 3 * target).abs() < 1e-12  # of any length


def test_large_maps_are_pooled() -> None:
    loss, (s, t) = build(size=3), maps(6, 9)
    pooled = [nn.functional.avg_pool2d(x, (2, 3)) for x in (s, t)]
    torch.testing.assert_close(loss(s, t), loss(*pooled))
    assert loss(s, t) != build()(s, t)


def test_masked_positions_are_not_looked_at() -> None:
    loss, (s, t) = build(), maps()
    weight = torch.ones(2, 5, 6)
    weight[:, :, 4:] = 0
    torch.testing.assert_close(loss(s, t, weight=weight), loss(s[..., :4], t[..., :4]))


def test_unknown_translator() -> None:
    with pytest.raises(ValueError, match="translate must be 'attention' or 'convolution', got 'linear'"):
        build(translate="linear")

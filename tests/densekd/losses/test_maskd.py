"""Masked distillation against NumPy; tokens, their masks, how they learn and where they are kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from safetensors.torch import save_file
from scipy.special import expit
from torch import Tensor, nn

from densekd.losses import MasKD
from densekd.losses.receptive_tokens import ReceptiveTokens, overlap

CONTRACT = LossContract("maskd", stopped="the student's masks are taken as they are")


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    student, teacher = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


@pytest.fixture
def learned(tmp_path: Path) -> str:
    """Tokens with shares of their own, in a file."""
    torch.manual_seed(0)
    tokens = ReceptiveTokens(channels=4, tokens=3)
    tokens.tokens.data *= 100
    tokens.save(tmp_path / "tokens.safetensors")
    return str(tmp_path / "tokens.safetensors")


@pytest.mark.parametrize("progress", [0.0, 0.7, None])
def test_formula(learned: str, progress: float | None) -> None:
    loss = MasKD(channels=4, custom=0.5, learned=learned).double()
    s, t = pair(2, 4, 5, 6)
    weight = np.random.default_rng(0).integers(0, 3, (2, 5, 6)).astype(float)
    e = loss.receptive.tokens.detach().numpy()
    expected = []
    shares = loss.receptive.shares(t, torch.from_numpy(weight)).detach().numpy()
    for n in range(2):
        total = 0
        for k in range(3):
            mask = expit(np.einsum("c,chw->hw", e[k], t[n].numpy()))
            if progress != 0:
                mask = mask * expit(np.einsum("c,chw->hw", e[k], s[n].numpy()))
            error = (mask * (s[n].numpy() - t[n].numpy())) ** 2
            total += shares[n, k] * ((weight[n] * error).sum((1, 2)) / (weight[n] * mask).sum()).mean()
        expected.append(total)
    value = loss(s, t, weight=torch.from_numpy(weight), progress=progress)
    np.testing.assert_allclose(value.item(), np.mean(expected), rtol=1e-9)


def test_the_goal_of_tokens_that_learn() -> None:
    loss = MasKD(channels=4, tokens=3).double()
    loss.receptive.tokens.data *= 100
    _, t = pair(2, 4, 5, 6)
    f = t.flatten(2).numpy()
    m = expit(np.einsum("tc,ncp->ntp", loss.receptive.tokens.detach().numpy(), f))
    a = m.sum(1, keepdims=True)
    cosine = [(a[n] * f[n] * f[n]).sum() / np.linalg.norm(a[n] * f[n]) / np.linalg.norm(f[n]) for n in range(2)]
    dice = [
        2 * (m[n, i] @ m[n, j]) / (m[n, i] @ m[n, i] + m[n, j] @ m[n, j])
        for n in range(2)
        for i in range(3)
        for j in range(3)
        if i != j
    ]
    u = (m * (f**2).sum(1, keepdims=True)).sum((0, 2))
    u /= u.sum()
    expected = 1 - np.mean(cosine) + np.mean(dice) + 1 + (u * np.log(u)).sum() / np.log(3)
    np.testing.assert_allclose(loss._goal(loss.receptive.masks(t), t, None).item(), expected, rtol=1e-9)


def test_shares_are_those_of_a_convolution_and_a_mean() -> None:
    tokens = ReceptiveTokens(channels=4, tokens=3).double()
    tokens.around.weight.data *= 30
    _, f = pair(2, 4, 5, 6)
    expected = tokens.score(tokens.around(f).mean((2, 3))).softmax(1)
    torch.testing.assert_close(tokens.shares(f), expected)
    torch.testing.assert_close(
        tokens.shares(f[..., :1]), tokens.score(tokens.around(f[..., :1]).mean((2, 3))).softmax(1)
    )
    ignored = nn.functional.pad(torch.ones(2, 5, 6), (0, 2))
    wide = nn.functional.pad(f, (0, 2), value=7.0)
    inner = tokens.around(nn.functional.pad(f, (0, 2))).sum((2, 3)) / 30
    bias = tokens.around.bias * (1 - 40 / 30)  # one for each position that counts
    torch.testing.assert_close(tokens.shares(wide, ignored), tokens.score(inner + bias).softmax(1))
    assert expected.std() > 0.01


def test_zero_tokens_are_masks_of_one_half() -> None:
    tokens = ReceptiveTokens(channels=4, tokens=3)
    tokens.tokens.data.zero_()
    assert (tokens.masks(torch.randn(2, 4, 5, 6)) == 0.5).all()


def test_overlap_is_bounded() -> None:
    rng = np.random.default_rng(0)
    masks = torch.from_numpy(rng.uniform(size=(2, 4, 30)))
    assert (overlap(masks) > 0).all()
    assert (overlap(masks) < 4 * 3).all()
    same = masks[:, :1].expand(-1, 4, -1)
    torch.testing.assert_close(overlap(same), torch.full((2,), 12.0, dtype=torch.float64))
    disjoint = torch.eye(4).repeat_interleave(5, 1)[None]
    assert overlap(disjoint) == 0
    assert overlap(masks[:, :1]).abs().max() < 1e-12  # a mask with itself does not count
    torch.testing.assert_close(overlap(masks, torch.arange(30).expand(2, -1) < 20), overlap(masks[..., :20]))


def test_tokens_that_learn_part_the_map_among_them() -> None:
    """Four regions, each with a feature of its own; the value of the loss does not show it, the tokens do."""
    torch.manual_seed(0)
    loss = MasKD(channels=6, tokens=4, custom=None)
    region = torch.arange(4).repeat_interleave(2).repeat_interleave(8).view(1, 8, 8)
    t = (2 * torch.eye(6)[:, region] + 0.1 * torch.randn(6, 1, 8, 8)).movedim(1, 0)
    s = t.clone().requires_grad_()
    optimizer = torch.optim.Adam(loss.parameters(), 0.1)
    for _ in range(60):
        optimizer.zero_grad()
        value = loss(s, t)
        value.backward()
        optimizer.step()
        assert value == 0
    assert (s.grad == 0).all()
    masks = loss.receptive.masks(t)[0].detach()
    cover = torch.stack([masks[:, region[0].flatten() == r].mean(1) for r in range(4)], 1)
    assert sorted(cover.argmax(0).tolist()) == [0, 1, 2, 3]
    assert (cover.max(0).values > 0.7).all()
    assert overlap(masks[None]) / 12 < 0.2


def test_loaded_tokens_stay(learned: str) -> None:
    loss = MasKD(channels=4, learned=learned)
    s, t = (x.float().requires_grad_() for x in pair(2, 4, 5, 6))
    loss(s, t).backward()
    assert s.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in loss.parameters())
    assert len(loss.receptive.tokens) == 3
    again = MasKD(channels=4, learned=learned)
    assert again(s, t) == loss(s, t)


def test_tokens_of_equal_share_are_read_as_such(tmp_path: Path) -> None:
    path = tmp_path / "tokens.safetensors"
    ReceptiveTokens(channels=4, tokens=3, weigh=False).save(path)
    loss = MasKD(channels=4, learned=str(path))
    assert (loss.receptive.shares(torch.randn(2, 4, 5, 6)) == 1 / 3).all()


def test_files_that_are_no_tokens(learned: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tokens of 4 channels cannot attend to a map of 5"):
        MasKD(channels=5, learned=learned)(torch.zeros(1, 5, 2, 2), torch.zeros(1, 5, 2, 2))
    with pytest.raises(FileNotFoundError, match=r"no file of tokens .*nowhere: write it with `densekd tokens`"):
        MasKD(channels=4, learned=str(tmp_path / "nowhere"))
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="holds no receptive tokens; its keys are weight"):
        MasKD(channels=4, learned=str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match="at least two tokens, got 1"):
        MasKD(channels=4, tokens=1)

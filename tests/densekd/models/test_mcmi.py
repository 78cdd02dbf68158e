"""The loss of a teacher that spreads its predictions within a class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from scipy.special import rel_entr, softmax

from densekd.models import MCMILoss


@pytest.fixture
def hub() -> Iterator[MessageHub]:
    yield MessageHub.get_instance("test_mcmi")
    MessageHub._instance_dict.pop("test_mcmi")


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    labels = torch.randint(3, (2, 6, 6), generator=draw)
    labels[:, 0] = 255
    return 2 * torch.randn(2, 3, 6, 6, generator=draw), labels


def test_value_is_cross_entropy_minus_the_spread_within_classes(hub: MessageHub) -> None:
    hub.update_info_dict({"iter": 9, "max_iters": 10})
    z, y = batch()
    known = (y != 255).numpy()
    p, truth = softmax(z.movedim(1, -1).double().numpy()[known], axis=1), y.numpy()[known]
    means = np.stack([p[truth == c].mean(0) for c in range(3)])
    spread = rel_entr(p, means[truth]).sum(1).mean()
    hard = F.cross_entropy(z, y, ignore_index=255)
    found = MCMILoss(lam=0.5, start=0.8, avg_non_ignore=True)(z, y, ignore_index=255)
    assert found.item() == pytest.approx(hard.item() - 0.5 * spread, rel=1e-5)
    assert MCMILoss(lam=0.0, avg_non_ignore=True)(z, y, ignore_index=255).item() == pytest.approx(hard.item())


def test_pixels_of_weight_0_count_in_neither_term(hub: MessageHub) -> None:
    hub.update_info_dict({"iter": 9, "max_iters": 10})
    z, y = batch()
    weight = torch.ones(y.shape)
    weight[:, 3:] = 0
    loss = MCMILoss(lam=0.5)
    found = [loss(each, y, weight=weight, ignore_index=255) for each in (z, torch.cat([z[:, :, :3], -z[:, :, 3:]], 2))]
    assert found[0] == found[1]
    assert found[0] != loss(z, y, ignore_index=255)


def test_before_its_start_it_is_cross_entropy(hub: MessageHub) -> None:
    z, y = batch()
    loss = MCMILoss(lam=0.5, start=0.8, avg_non_ignore=True)
    hub.update_info_dict({"iter": 7, "max_iters": 10})
    early = loss(z, y, ignore_index=255)
    hub.update_info_dict({"iter": 8, "max_iters": 10})
    assert early.item() == pytest.approx(F.cross_entropy(z, y, ignore_index=255).item())
    assert loss(z, y, ignore_index=255) < early


def test_a_tuned_model_tells_pixels_of_a_class_apart(hub: MessageHub) -> None:
    """Two kinds of pixels share a class: by cross-entropy they end alike, by this loss they do not."""
    hub.update_info_dict({"iter": 10, "max_iters": 10})
    kinds = torch.eye(3)[torch.arange(36) % 3].T.reshape(1, 3, 6, 6)
    y = (torch.arange(36) % 3).clamp_max(1).reshape(1, 6, 6)  # kinds 1 and 2 are one class
    gaps = []
    for lam in (0.0, 1.0, 2.0):
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 3, 1)
        optimiser, loss = torch.optim.Adam(layer.parameters(), 0.05), MCMILoss(lam=lam, start=0.0)
        for _ in range(60):
            optimiser.zero_grad()
            loss(layer(kinds), y).backward()
            optimiser.step()
        p = layer(kinds).softmax(1)[0].flatten(1).detach()
        gaps.append((p[:, 1] - p[:, 2]).abs().max().item())
    assert gaps[0] < gaps[1] < gaps[2]
    assert gaps[2] > gaps[0] + 0.05


def test_options_out_of_range() -> None:
    for wrong in (dict(lam=-0.1), dict(start=1.5)):
        with pytest.raises(ValueError, match="MCMILoss: lam is not negative and start a share"):
            MCMILoss(**wrong)

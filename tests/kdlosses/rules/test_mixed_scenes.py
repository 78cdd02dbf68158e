from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from kdlosses.rules import mixed_scenes, mixup


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_expected_loss_is_that_of_the_mixed_labels() -> None:
    images, z = torch.rand(4, 3, 64, 64, generator=draw()), torch.randn(4, 5, 64, 64, generator=draw(1))
    labels = torch.randint(5, (4, 64, 64), generator=draw(2))
    partner, keep = mixup(4, draw(3))
    _, drawn = mixed_scenes(images, labels, draw(3))
    one, other = (F.cross_entropy(z, y, reduction="none").mean((1, 2)) for y in (labels, labels[partner]))
    found = F.cross_entropy(z, drawn, reduction="none").mean((1, 2))
    torch.testing.assert_close(found, keep * one + (1 - keep) * other, atol=0.06, rtol=0)


def test_images_are_mixed_in_the_same_proportion_and_what_was_given_stays() -> None:
    images, labels = torch.rand(4, 3, 8, 8), torch.randint(5, (4, 8, 8))
    before = images.clone(), labels.clone()
    partner, keep = mixup(4, draw(3))
    x, y = mixed_scenes(images, labels, draw(3))
    weight = keep.view(-1, 1, 1, 1)
    torch.testing.assert_close(x, weight * images + (1 - weight) * images[partner])
    assert ((y == labels) | (y == labels[partner])).all()
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])


def test_no_share_mixes_nothing_and_labels_of_images_do_as_well() -> None:
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    x, y = mixed_scenes(images, labels, draw(), share=0.0)
    assert torch.equal(x, images)
    assert torch.equal(y, labels)
    assert mixed_scenes(images, labels, draw())[1].shape == (4,)
    with pytest.raises(ValueError, match="mixup: alpha must be positive"):
        mixed_scenes(images, labels, draw(), alpha=0.0)

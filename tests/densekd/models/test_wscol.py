"""WSCoL: weak features say which strong ones are alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from densekd.models.wscol import cluster, contrast, moved, trusted

from . import semi

LOW = dict(cls_pseudo_thr=0.3, width=16)


def rows(count: int = 9, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_the_contrast_is_that_of_numpy() -> None:
    strong, labels = rows(), torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 0])
    near = torch.rand(9, 9, generator=torch.Generator().manual_seed(1)) < 0.7
    unit = strong.numpy() / np.linalg.norm(strong.numpy(), axis=1, keepdims=True)
    values = []
    for i in range(9):
        positives = [p for p in range(9) if p != i and labels[p] == labels[i] and near[i, p]]
        below = sum(np.exp(unit[i] @ unit[a] / 0.07) for a in range(9) if a != i)
        if positives:
            values.append(np.mean([-np.log(np.exp(unit[i] @ unit[p] / 0.07) / below) for p in positives]))
    assert 3 < len(values) < 9  # an anchor without a positive is left out
    np.testing.assert_allclose(contrast(strong, labels, near).item(), np.mean(values) / 2, rtol=1e-10)


def test_a_common_rotation_changes_nothing_and_none_alike_is_nothing() -> None:
    strong, labels = rows(), torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 0])
    turn = torch.linalg.qr(rows(5, 5, 3))[0]
    torch.testing.assert_close(contrast(strong @ turn, labels), contrast(strong, labels))
    alone = contrast(strong.requires_grad_(True), torch.arange(9))
    assert alone.item() == 0
    assert alone.requires_grad
    assert contrast(strong[:0], labels[:0]).item() == 0


def test_mixed_precision_does_not_round_the_cosines() -> None:
    strong, labels = rows().float(), torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 0])
    with torch.autocast("cpu", torch.bfloat16):
        found, near = contrast(strong, labels), trusted(strong, labels, background=4)
    torch.testing.assert_close(found, contrast(strong, labels))
    assert torch.equal(near, trusted(strong, labels, background=4))


def test_the_weak_view_says_which_pairs_are_trusted() -> None:
    weak, labels = rows(12, 3), torch.tensor([0, 0, 0, 0, 1, 1, 1, 4, 4, 4, 2, 1])
    found = trusted(weak, labels, background=4)
    unit = weak / weak.norm(dim=1, keepdim=True)
    for i in range(12):
        same = [j for j in range(12) if j != i and labels[j] == labels[i]]
        nearest = sorted((j for j in range(12) if j != i), key=lambda j: -float(unit[i] @ unit[j]))[: len(same)]
        expected = same if labels[i] == 4 else [j for j in same if j in nearest]
        assert found[i].nonzero().flatten().tolist() == sorted(expected)


def test_clusters_correct_what_the_classifier_takes_for_another_class() -> None:
    draw = torch.Generator().manual_seed(0)
    truth = torch.arange(60) % 3
    centres = torch.eye(3, 8)
    features = centres[truth] + 0.15 * torch.randn(60, 8, generator=draw)
    logits = 2 * torch.nn.functional.one_hot(truth, 4) + 1.2 * torch.randn(60, 4, generator=draw)
    unknown = torch.full((60,), -1)
    before = (logits.argmax(1) == truth).double().mean()
    after = (cluster(features, logits, None, unknown) == truth).double().mean()
    assert before < 0.85
    assert after > 0.95
    guess = torch.cat([torch.randn(60, 3, generator=draw), torch.full((60, 1), -9.0)], 1)  # knows nothing
    told, untold = ((cluster(features, guess, each, unknown) == truth).double().mean() for each in (centres, None))
    assert told > 0.95 > untold
    known = unknown.clone()
    known[::7] = (truth[::7] + 1) % 3
    assert torch.equal(cluster(features, logits, centres, known)[::7], known[::7])
    one = cluster(features, torch.tensor([[0.0, 9, 0, 0]]).expand(60, -1), None, unknown)
    assert one.eq(1).all()


def test_at_first_unmapped_features_count_as_well() -> None:
    truth = torch.arange(30) % 2
    swapped = truth.clone()
    swapped[:8] = 1 - truth[:8]
    features, mixed = torch.eye(2)[truth], torch.eye(2)[swapped]
    logits = torch.cat([torch.eye(2)[truth], torch.full((30, 1), -9.0)], 1)
    unknown = torch.full((30,), -1)
    start, end = (cluster(mixed, logits, None, unknown, 4, features, share) for share in (0.0, 1.0))
    assert torch.equal(start, truth)
    assert torch.equal(end, swapped)


def test_prototypes_move_in_closed_form_and_memory_is_a_ring() -> None:
    assert moved(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 0.0]), 0.6).tolist() == pytest.approx([1.8, 1.2])
    model = semi.built("WSCoL", **LOW, memory=3)
    given = semi.batch()
    model(**given, mode="loss")
    first, seen = model.prototypes.clone(), model.held.clone()
    assert (first.abs().sum(1) > 0).tolist() == (seen > 0).tolist()
    assert seen.sum() > 3
    model(**given, mode="loss")
    assert (model.held - seen).sum() > 3
    label = int(seen.argmax())
    assert model.held[label] > 3
    mean = model.mapped(model.bank[label]).mean(0)
    torch.testing.assert_close(model.prototypes[label], 0.6 * first[label] + 0.4 * mean)


def test_background_takes_no_part_where_objectness_is_uncertain() -> None:
    model = semi.built("WSCoL", **LOW)
    apart = torch.arange(12.0)[:, None] * 40 + torch.tensor([0.0, 0, 20, 20])
    sure = torch.full((12,), 0.9)
    assert not model.uncertain(apart, sure)
    # each overlaps its neighbours: of 12 boxes 3, 3, 4, 4, 6 and 6 are left, of five such rows five times as many
    shifts = 4.5 * torch.arange(12.0)[:, None] * torch.tensor([1.0, 0, 1, 0])
    chain = torch.tensor([0.0, 0, 20, 20]) + shifts
    falling = torch.linspace(0.9, 0.8, 12)
    lines = 500 * torch.arange(5.0).repeat_interleave(12)[:, None]
    assert model.uncertain(chain.repeat(5, 1) + lines, falling.repeat(5))  # variance 38.9
    assert not model.uncertain(chain.repeat(3, 1) + lines[:36], falling.repeat(3))  # 14
    assert not model.uncertain(apart, sure - 0.5)  # none is likely


def test_the_students_features_of_a_label_are_brought_together() -> None:
    """With the contrast they are grouped as the weak features say, without it they are not."""
    gained = {}
    for weight in (0.0, 5.0):
        model = semi.built("WSCoL", **LOW, contrast_weight=weight, unsup_weight=1.0, consistency_weight=0.0)
        model.momentum = 0.999
        optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
        for step in range(6):
            given = semi.batch(1, seed=5)
            semi.losses(model, given)
            optimiser.step()
            if not step:
                before = apart(model)
        gained[weight] = before - apart(model)
    assert gained[5.0] > gained[0.0] + 0.1


def apart(model: object) -> float:
    """The contrast of a fixed batch, whatever it weighs."""
    kept = dict(model.semi_train_cfg)  # type: ignore[attr-defined]
    model.semi_train_cfg["contrast_weight"] = 1.0  # type: ignore[attr-defined]
    value = semi.losses(model, semi.batch(1, seed=5))["unsup_loss_contrast"]
    model.semi_train_cfg.update(kept)  # type: ignore[attr-defined]
    return value


def test_both_views_of_a_box_are_mapped_to_one_place() -> None:
    model = semi.built("WSCoL", **LOW, mapping_weight=1.0, gradient_weight=1.0, contrast_weight=0.0)
    found = semi.losses(model, semi.batch())
    assert found["unsup_loss_mapping"] > 0
    assert 0 < found["unsup_loss_gradient"] < 2
    assert model.mapping[0].weight.grad.abs().sum() > 0
    off = semi.built("WSCoL", **LOW, mapping_weight=0.0, gradient_weight=0.0, contrast_weight=0.0)
    semi.losses(off, semi.batch())
    grad = off.mapping[0].weight.grad
    assert grad is None or not grad.any()
    same = model._discrepancy(*([torch.randn(4, 24)] * 2), torch.tensor([0, 1, 2, -1]))
    assert abs(same.item()) < 1e-5

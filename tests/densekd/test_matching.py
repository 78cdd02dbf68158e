"""Which queries belong together: the matching of least cost, beside brute force in NumPy."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from densekd.align import matching
from densekd.align.matching import Matching, against_others, mask_cost, overlap
from densekd.align.memory import Memory
from densekd.taps.queries import Layer, QueryHead

K = 4
KINDS = {"boxes of sigmoids": ("boxes", True), "boxes of a softmax": ("boxes", False), "masks": ("masks", False)}


def head_of(kind: str, queries: int, classes: int = K, **other: Any) -> QueryHead:
    shape, sigmoid = KINDS[kind]
    return QueryHead("head", shape, queries, classes, sigmoid, 2)._replace(**other)  # type: ignore[arg-type]


def layer(head: QueryHead, seed: int, images: int = 2, size: int = 5) -> Layer:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(images, head.queries, *shape, generator=generator)

    shapes = (0.7 * normal(4)).sigmoid() if head.shape == "boxes" else 2 * normal(size, size)
    return Layer(2 * normal(head.classes + (not head.sigmoid)), shapes, normal(3))


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def probabilities(layer: Layer, head: QueryHead) -> np.ndarray:
    z = layer.classes.double().numpy()
    e = np.exp(z)
    return sigmoid(z) if head.sigmoid else e / e.sum(-1, keepdims=True)


def giou(a: np.ndarray, b: np.ndarray) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = a, b
    inner_w = min(ax + aw / 2, bx + bw / 2) - max(ax - aw / 2, bx - bw / 2)
    inner_h = min(ay + ah / 2, by + bh / 2) - max(ay - ah / 2, by - bh / 2)
    both = max(inner_w, 0) * max(inner_h, 0)
    union = aw * ah + bw * bh - both
    outer_w = max(ax + aw / 2, bx + bw / 2) - min(ax - aw / 2, bx - bw / 2)
    outer_h = max(ay + ah / 2, by + bh / 2) - min(ay - ah / 2, by - bh / 2)
    return both / union - (outer_w * outer_h - union) / (outer_w * outer_h)


def of_masks(z: np.ndarray, x: np.ndarray) -> float:
    q, p = sigmoid(z).ravel(), sigmoid(x).ravel()
    divergence = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    return 5 * divergence + 5 * (1 - (2 * (q * p).sum() + 1) / ((q * q).sum() + (p * p).sum() + 1))


def cost_of(student: Layer, teacher: Layer, mine: QueryHead, its: QueryHead, image: int) -> np.ndarray:
    """The costs of all pairs `(n, m)`, straight from the formula."""
    q, p = probabilities(student, mine)[image], probabilities(teacher, its)[image]
    s = (p if its.sigmoid else p[:, :-1]).max(1)
    a, b = (each.shapes[image].double().numpy() for each in (student, teacher))
    found = np.zeros((len(q), len(p)))
    for j, i in np.ndindex(*found.shape):
        if mine.shape == "boxes":
            shapes = 5 * abs(a[j] - b[i]).sum() + 2 * (1 - giou(a[j], b[i]))
        else:
            shapes = of_masks(a[j], b[i])
        found[j, i] = 2 * abs(q[j] - p[i]).sum() + s[i] * shapes
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 3), (1, 4)])
def test_no_other_assignment_costs_less(kind: str, sizes: tuple[int, int]) -> None:
    mine, its = (head_of(kind, queries) for queries in sizes)
    for seed in range(6):
        student, teacher = layer(mine, seed), layer(its, 100 + seed)
        pairs = Matching(mine, its).match(student, teacher)
        n = min(sizes)
        assert pairs.student.shape == pairs.teacher.shape == pairs.score.shape == (2, n)
        for image in range(2):
            cost = cost_of(student, teacher, mine, its, image)
            p = probabilities(teacher, its)[image]
            score = (p if its.sigmoid else p[:, :-1]).max(1)
            kept = sorted(np.argsort(-score)[:n].tolist())  # of more than the student has, the surest
            assert sorted(pairs.teacher[image].tolist()) == kept
            every = itertools.permutations(range(sizes[0]), n)
            least = min(sum(cost[j, i] for j, i in zip(order, kept)) for order in every)
            own, other = pairs.student[image].tolist(), pairs.teacher[image].tolist()
            assert own == sorted(set(own))
            np.testing.assert_allclose(sum(cost[j, i] for j, i in zip(own, other)), least, rtol=1e-5)
            np.testing.assert_allclose(pairs.score[image].numpy(), score[other], rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_another_order_of_the_teachers_queries_gives_the_same_partners(kind: str) -> None:
    mine, its = head_of(kind, 4), head_of(kind, 6)
    student, teacher = layer(mine, 0), layer(its, 1)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    moved = Layer(*(each[:, order] for each in teacher))
    before, after = (Matching(mine, its).match(student, each) for each in (teacher, moved))
    assert torch.equal(before.student, after.student)
    assert torch.equal(before.teacher, order[after.teacher])
    assert not torch.equal(before.teacher, after.teacher)
    assert torch.equal(before.score, after.score)


@pytest.mark.parametrize("kind", KINDS)
def test_a_query_finds_itself(kind: str) -> None:
    head = head_of(kind, 6)
    own = layer(head, 0)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    pairs = Matching(head, head).match(own, Layer(*(each[:, order] for each in own)))
    assert torch.equal(order[pairs.teacher], pairs.student)


def test_boxes_of_queries_without_an_object_do_not_pull_at_the_matching() -> None:
    """The teacher's second query is no object, and far: its class decides alone."""
    head = head_of("boxes of a softmax", 2, classes=1)
    classes = torch.tensor([[[9.0, 0.0], [0.0, 9.0]]])
    near, far = [0.2, 0.2, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]
    teacher = Layer(classes, torch.tensor([[near, far]]), torch.zeros(1, 2, 3))
    student = Layer(classes.flip(1), torch.tensor([[near, near]]), torch.zeros(1, 2, 3))
    assert Matching(head, head).match(student, teacher).teacher.tolist() == [[1, 0]]


def test_entries_of_one_batch_share_the_matching(monkeypatch: pytest.MonkeyPatch) -> None:
    head = head_of("boxes of sigmoids", 3)
    levels = [[torch.stack([a, b]) for a, b in zip(layer(head, seed), layer(head, seed + 1))] for seed in (0, 5)]
    calls: list[Tensor] = []
    least = matching.least
    monkeypatch.setattr(matching, "least", lambda cost: calls.append(cost) or least(cost))
    shared = Matching(head, head)
    first = shared(*levels, 1)
    again = shared(*levels, 1)
    assert len(calls) == 2  # of each image
    assert len(first) == 1
    assert torch.equal(first[0][2].teacher, again[0][2].teacher)
    assert len(shared(*levels, 2)) == 2
    assert len(calls) == 6
    shared(levels[0], [each.clone() for each in levels[1]], 2)  # another batch
    assert len(calls) == 10
    assert copy.deepcopy(shared) is not shared


def test_a_student_that_overflowed_is_matched_with_something() -> None:
    head = head_of("boxes of sigmoids", 3)
    student, teacher = layer(head, 0), layer(head, 1)
    student.classes[0, 1] = torch.nan
    assert sorted(Matching(head, head).match(student, teacher).teacher[0].tolist()) == [0, 1, 2]


def test_a_softmax_beside_sigmoids_is_one_class_against_all_others() -> None:
    mine, its = head_of("boxes of a softmax", 3), head_of("boxes of sigmoids", 3)
    student, teacher = layer(mine, 0), layer(its, 1)
    own, other = Matching(mine, its).logits(student, teacher)
    torch.testing.assert_close(own.sigmoid(), student.classes.softmax(2)[..., :K])
    assert torch.equal(other, teacher.classes)
    z = torch.tensor([[100.0, 0.0, -3.0]])
    assert against_others(z).isfinite().all()


def test_classes_by_a_map() -> None:
    mine, its = head_of("masks", 3, classes=2), head_of("masks", 3, classes=5)
    student, teacher = layer(mine, 0), layer(its, 1)
    other = Matching(mine, its, [3, 1]).logits(student, teacher)[1]
    assert torch.equal(other, teacher.classes[..., [3, 1, 5]])
    with pytest.raises(ValueError, match=r"the student has 2 classes, the teacher 5: give class_map"):
        Matching(mine, its)
    for wrong in ([0], [0, 5], [0, True], "ab", 3):
        with pytest.raises(ValueError, match="a class from 0 to 4 for each of the student's 2, without background"):
            Matching(mine, its, wrong)  # type: ignore[arg-type]


def test_overlaps_and_costs_of_masks_in_numpy() -> None:
    boxes = [layer(head_of("boxes of sigmoids", 4), seed, images=1).shapes[0] for seed in (0, 1)]
    a, b = (each.double().numpy() for each in boxes)
    by_hand = np.array([[giou(x, y) for y in b] for x in a])
    np.testing.assert_allclose(overlap(*boxes, aligned=False).numpy(), by_hand, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(overlap(*boxes).numpy(), by_hand.diagonal(), rtol=1e-4, atol=1e-6)
    masks = [layer(head_of("masks", 4), seed, images=1).shapes for seed in (0, 1)]
    a, b = (each[0].double().numpy() for each in masks)
    by_hand = np.array([[of_masks(x, y) for y in b] for x in a])
    np.testing.assert_allclose(mask_cost(*masks, 5.0, 5.0)[0].numpy(), by_hand, rtol=1e-4)


def test_tokens_of_an_encoder_are_the_maps_that_they_were_made_of() -> None:
    maps = [torch.randn(2, 3, 4, 6), torch.randn(2, 3, 2, 3)]
    tokens = torch.cat([each.flatten(2).mT for each in maps], 1)
    mine, its, weights = Memory()([tokens, *maps], maps)
    for found in (mine, its):
        assert all(torch.equal(one, other) for one, other in zip(found, maps, strict=True))
    assert weights is None
    with pytest.raises(ValueError, match=r"30 tokens are not the positions of maps of \[\(4, 6\)\]"):
        Memory()([tokens, maps[0]], maps)


def test_queries_of_denoising_stand_in_front_and_are_left_out() -> None:
    head = head_of("boxes of sigmoids", 3)
    longer = head._replace(queries=5)
    whole = layer(longer, 0)
    stacked = [each[None].expand(2, *each.shape) for each in whole]
    for found in head.layers(stacked):
        assert all(torch.equal(one, other[:, 2:]) for one, other in zip(found, whole))
    listed = [each for each in whole for _ in range(2)]  # as Mask2Former yields its layers, one by one
    assert len(head.layers(listed)) == 2

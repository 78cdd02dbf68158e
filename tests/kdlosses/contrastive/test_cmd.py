from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import log_softmax, rel_entr, softmax
from torch import Tensor

from kdlosses import CMD, build
from kdlosses.relation import blocks

CONTRACT = LossContract(
    "cmd",
    no_fixed_point="a projection and attention that are still to be learned stand between",
    over_pairs=True,
)


def pooled(own: CMD, side: str, rows: np.ndarray, w: np.ndarray, bags: list[list[int]]) -> np.ndarray:
    """Each bag by itself, the softmax of its instances written out."""
    net = getattr(own, side).score
    v, a = net[0].weight.detach().numpy(), net[2].weight.detach().numpy()[0]
    score = np.tanh(rows / np.linalg.norm(rows, axis=1, keepdims=True) @ v.T) @ a
    out = np.stack([softmax(score[bag] + np.log(w[bag])) @ rows[bag] for bag in bags])
    out = out @ own.projection.weight.detach().numpy().T if side == "student" else out
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def reference(
    own: CMD,
    s: np.ndarray,
    t: np.ndarray,
    w: np.ndarray,
    regions: list[list[int]],
    wholes: list[list[int]],
    owner: list,
) -> float:
    """The loss, term by term; a row may be in a bag several times."""
    weight = [w[i] for i in range(len(regions))] if len(regions) == len(s) else np.ones(len(regions))
    u, v, u_whole, v_whole = (
        pooled(own, side, rows, w, bags)
        for bags in (regions, wholes)
        for side, rows in (("student", s), ("teacher", t))
    )

    def between(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return rel_entr(softmax(v @ v.T / 0.05, axis=1), softmax(u @ v.T / 0.1, axis=1)).sum(1)

    def within(x: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return -log_softmax(x @ whole.T / 0.1, axis=1)[np.arange(len(x)), owner]

    far = np.average(between(u, v), weights=weight) + between(u_whole, v_whole).mean()
    return float(far + 0.7 * np.average(within(u, u_whole) + within(v, v_whole), weights=weight))


def test_formula_on_maps() -> None:
    rng = np.random.default_rng(0)
    loss = CMD(student_channels=3, teacher_channels=4, within=0.7).double()
    s, t, w = rng.normal(size=(3, 3, 4, 5)), rng.normal(size=(3, 4, 4, 5)), rng.random((3, 4, 5))
    place = np.arange(60).reshape(3, 4, 5)
    crops = [place[n, y, x].ravel().tolist() for n in range(3) for y in np.s_[:2, 2:] for x in np.s_[:3, 3:]]
    wholes = [place[n].ravel().tolist() for n in range(3)]
    owner = [n for n in range(3) for _ in range(4)]
    expected = reference(
        loss, *(x.transpose(0, 2, 3, 1).reshape(60, -1) for x in (s, t)), w.ravel(), crops, wholes, owner
    )
    value = loss(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w))
    np.testing.assert_allclose(value.item(), expected, rtol=1e-9)


@pytest.mark.parametrize("graphs", [1, 3])
def test_formula_on_nodes(graphs: int) -> None:
    """A region is a node with its sources; the whole its graph, of a single graph the regions of those sources."""
    rng = np.random.default_rng(0)
    loss = CMD(student_channels=3, teacher_channels=4, within=0.7).double()
    s, t, w, edges = rng.normal(size=(12, 3)), rng.normal(size=(12, 4)), rng.random(12), rng.integers(12, size=(2, 20))
    batch = np.arange(12) // 4
    if graphs > 1:
        edges = edges[:, batch[edges[0]] == batch[edges[1]]]
    regions = [[*edges[0, edges[1] == i], i] for i in range(12)]
    if graphs == 1:
        wholes, owner = [[j for k in region for j in regions[k]] for region in regions], list(range(12))
    else:
        wholes, owner = [np.flatnonzero(batch == g).tolist() for g in range(3)], batch.tolist()
    told = {"batch": torch.from_numpy(batch)} if graphs > 1 else {}
    value = loss(*map(torch.from_numpy, (s, t)), weight=torch.from_numpy(w), edge_index=torch.from_numpy(edges), **told)
    np.testing.assert_allclose(value.item(), reference(loss, s, t, w, regions, wholes, owner), rtol=1e-9)


def signatures(images: int = 12, side: int = 4) -> tuple[Tensor, Tensor]:
    """Maps that differ in one position of each crop alone, and where those are: all else is the same background."""
    draw = torch.Generator().manual_seed(0)
    maps = torch.zeros(images, 16, side, side)
    maps[:, 0] = 2.0  # the background, in a channel of its own, and louder than what tells
    maps = maps + 0.3 * torch.randn(maps.shape, generator=draw)
    key = torch.zeros(images, side, side, dtype=torch.bool)
    for n in range(images):
        for y in (0, 2):
            for x in (0, 2):
                i, j = (int(torch.randint(2, (), generator=draw)) for _ in range(2))
                key[n, y + i, x + j] = True
                maps[n, :, y + i, x + j] = torch.eye(16)[2 + n] + 0.5 * torch.eye(16)[1]
    return maps, key


def fitted(**options: float) -> tuple[CMD, Tensor, Tensor, Tensor]:
    maps, key = signatures()
    torch.manual_seed(0)
    loss = CMD(16, 16, **options)
    student = torch.nn.Conv2d(16, 16, 1)
    optimiser = torch.optim.Adam([*loss.parameters(), *student.parameters()], lr=0.02)
    for _ in range(80):
        optimiser.zero_grad()
        loss(student(maps), maps).backward()
        optimiser.step()
    return loss, student(maps).detach(), maps, key


def share_of_keys(attention: torch.nn.Module, maps: Tensor, key: Tensor) -> float:
    """What the instances that tell one image from another count in their bags; a quarter of them are such."""
    rows = maps.movedim(1, -1).flatten(0, -2)
    with torch.no_grad():
        share = attention(rows, torch.ones(len(rows))).view(len(maps), -1)
    return float((share * key.flatten(1)).sum() / share.sum())


def test_attention_finds_the_few_instances_that_tell_a_whole() -> None:
    """Mean pooling gives them a quarter; regions that look for their whole learn which they are, on both sides."""
    loss, student, maps, key = fitted()
    assert share_of_keys(loss.teacher, maps, key) > 0.8
    assert share_of_keys(loss.student, student, key) > 0.8
    untaught, *_ = fitted(within=0.0)
    assert share_of_keys(untaught.teacher, maps, key) < 0.35


def test_the_teachers_attention_cannot_learn_to_please_the_student() -> None:
    loss = CMD(3, 4, within=0.0)
    loss(torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(2, 4, 4, 4)).backward()
    assert all((weight.grad == 0).all() for weight in loss.teacher.parameters())
    assert all(weight.grad.abs().sum() > 0 for weight in loss.student.parameters())


def test_each_level_and_each_side_teaches() -> None:
    """Regions that were swapped between wholes are found out within a network, wholes that were between the two."""
    torch.manual_seed(0)
    maps = torch.randn(4, 6, 1, 1, dtype=torch.float64) + 0.1 * torch.randn(4, 6, 4, 4, dtype=torch.float64)
    loss = CMD(6, 6).double()
    with torch.no_grad():
        loss.projection.weight.copy_(torch.eye(6))
    value = loss(maps, maps)
    assert loss(maps.roll(1, 0), maps) > value + 1  # consistent in itself, and against the teacher
    mixed = maps.clone()
    mixed[:, :, :2] = maps.roll(1, 0)[:, :, :2]
    loss.within = 0.0
    alone = loss(mixed, mixed)
    loss.within = 1.0
    assert loss(mixed, mixed) - alone > 1  # the halves of a whole are of two kinds: they do not find it


def test_blocks_and_masked_positions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = CMD(3, 4).double()
    s, t = torch.randn(3, 3, 4, 4, dtype=torch.float64, requires_grad=True), torch.randn(3, 4, 4, 4).double()
    weight = torch.ones(3, 4, 4)
    weight[0, :2, :2], weight[1] = 0, 0  # a crop and a map that are not there
    whole = loss(s, t, weight=weight)
    (gradient,) = torch.autograd.grad(whole, s)
    assert (gradient.movedim(1, -1)[weight == 0] == 0).all()
    torch.testing.assert_close(loss(s + 9 * (1 - weight)[:, None], t, weight=weight), whole)
    torch.testing.assert_close(loss(s[[0, 2]], t[[0, 2]], weight=weight[[0, 2]]), whole)
    monkeypatch.setattr(blocks, "BLOCK", 20)
    torch.testing.assert_close(loss(s, t, weight=weight), whole)


def test_a_draw_of_regions_is_a_sample() -> None:
    s, t = torch.randn(40, 3), torch.randn(40, 4)
    edges = torch.randint(40, (2, 80))
    loss = CMD(3, 4, draw=20)
    assert loss(s, t, edge_index=edges) != loss(s, t, edge_index=edges)
    assert CMD(3, 4, draw=40)(s, t, edge_index=edges).isfinite()


def test_options_of_the_loss_that_had_the_name_say_where_it_is() -> None:
    with pytest.raises(TypeError, match=r"no option 'k'.*'cross_modal_mutual'"):
        build(dict(type="cmd", student_channels=3, teacher_channels=4, k=7))


def test_a_draw_of_one_region_would_teach_nothing() -> None:
    with pytest.raises(ValueError, match="draw must be at least 2 for a region to be told from another, got 1"):
        CMD(3, 4, draw=1)

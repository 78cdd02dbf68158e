"""Recommenders with few edges and few entries, taught by one that has them all."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor
from torch_geometric.nn.models import LightGCN

from graphkd import Recommender, distill_recommender
from graphkd.cli import recommend as command
from graphkd.recommendation import (
    RECOMMENDATION_RECIPES,
    Held,
    Interactions,
    Parts,
    Rows,
    block_world,
    divided,
    held,
    load_parts,
    read_parts,
    read_rows,
    recall_ndcg,
    train_recommendation_teacher,
    train_recommender,
)
from graphkd.recommendation.lesson import RecommendationLesson, Target
from graphkd.recommendation.network import Teacher, Ties, WeightedGCN
from graphkd.recommendation.partners import partners
from graphkd.recommendation.terms import bpr, uniformity
from graphkd.training.loop import History

FAST = dict(lr=0.02, batch_size=None)
QUICK = dict(epochs=2, runs=2, **FAST)
LIGHT = dict(type="lightgnn", layers=2, partners=5, triples=500, uniform=0.1)
WORLD = block_world(users=90, items=60, each=6, tested=6, noise=0.5, seed=1)
PARTS = divided(WORLD.known, WORLD.test, 1, val_share=0.2, least=5)
SHAPE = dict(layers=3, width=16, epochs=40, **FAST)


@pytest.fixture(scope="module")
def layers() -> list[Tensor]:
    """The layers of a trained teacher."""
    found = train_recommendation_teacher(PARTS, SHAPE, k=10, seed=1).layers
    assert found is not None
    return found


@pytest.fixture(scope="module")
def student() -> Recommender:
    return train_recommender(PARTS, None, "pruned_supervised", QUICK, k=10).model


def ties(parts: Parts = PARTS) -> Ties:
    return Ties(torch.stack([parts.train[0], parts.users + parts.train[1]]), parts.users + parts.items)


def lesson(loop: Callable[..., History], target: Target | None = None, teacher: Any = None) -> RecommendationLesson:
    edges = ties().ends
    draw = torch.Generator().manual_seed(3)
    return RecommendationLesson(edges, PARTS.users, PARTS.users + PARTS.items, loop, draw, target or Target(), teacher)


def noise() -> Tensor:
    """Which of the pairs to learn from are of no taste."""
    wrong = WORLD.known.codes(WORLD.known.pairs[:, WORLD.noise])
    return torch.isin(WORLD.known.codes(PARTS.train), wrong)


# --- the idea ---------------------------------------------------------------------------------------------------------


def test_a_taught_student_beats_its_control_and_loses_what_is_noise(layers: list[Tensor]) -> None:
    left = dict(edges=0.2, entries=0.1, runs=5, epochs=15, layers=2, **FAST)
    found = {
        name: train_recommender(PARTS, layers, method, left, k=10, seed=1)
        for name, method in (("control", "pruned_supervised"), ("student", LIGHT))
    }
    alike = {(len(each.model.network.kept), int(each.model.network.mask.sum()), each.bytes) for each in found.values()}
    assert len(alike) == 1, "they are of one size"
    recall = {name: each.recall for name, each in found.items()}
    assert recall["student"] > recall["control"] + 0.05, recall
    share = {name: float(noise()[each.model.network.kept].float().mean()) for name, each in found.items()}
    assert share["student"] < 0.6 * float(noise().float().mean()), share
    assert share["student"] < share["control"], share


def test_edges_that_the_network_between_does_not_need_go_first(layers: list[Tensor]) -> None:
    """The student is not trained here: all of its weights are 1, and what it is told decides alone."""
    parts, edges = PARTS, len(noise())

    def loop(model: WeightedGCN, loss: Callable[[Any], Tensor], epochs: int | None = None) -> History:
        if len(model.weight) <= edges:
            return History()
        optimiser = torch.optim.Adam(model.parameters(), 0.02)
        for _ in range(10):
            optimiser.zero_grad()
            loss(slice(None)).backward()
            optimiser.step()
        return History()

    gone = []
    for told in (True, False):
        torch.manual_seed(0)
        model = WeightedGCN(ties(parts), 16, 2)
        options = {**LIGHT, **({} if told else dict(weight_share=0.0, score_share=0.0))}
        RECOMMENDATION_RECIPES[options.pop("type")](model, lesson(loop, Target(0.8, 1, 1), layers), **options)
        left = torch.ones(edges, dtype=torch.bool)
        left[model.kept] = False
        gone.append(float(noise()[left].float().mean()))
    assert gone[0] > 1.6 * float(noise().float().mean()), gone
    assert gone[0] > gone[1] + 0.2, gone


# --- formulas, again in NumPy -----------------------------------------------------------------------------------------


def test_metrics_are_those_of_a_brute_force() -> None:
    draw = np.random.default_rng(0)
    users, items = draw.normal(size=(7, 5)), draw.normal(size=(11, 5))
    state = draw.choice(4, p=[0.5, 0.2, 0.3, 0.0], size=(7, 11))  # 1: seen, 2: to be found
    state[3][state[3] == 2] = 0
    lost, strangers, k = np.array([0, 2, 0, 0, 0, 1, 0]), 2, 4
    recall, ndcg = [0.0] * strangers, [0.0] * strangers
    for u in range(7):
        truth = {i for i in range(11) if state[u, i] == 2}
        if not len(truth) + lost[u]:
            continue
        order = sorted((i for i in range(11) if state[u, i] != 1), key=lambda i, u=u: -float(users[u] @ items[i]))[:k]
        gains = [1 / math.log2(rank + 2) if item in truth else 0.0 for rank, item in enumerate(order)]
        recall.append(len(truth & {*order}) / (len(truth) + lost[u]))
        ndcg.append(sum(gains) / sum(1 / math.log2(r + 2) for r in range(min(k, len(truth) + lost[u]))))
    seen, found = (torch.from_numpy(np.stack(np.nonzero(state == value))) for value in (1, 2))
    given = torch.from_numpy(users), torch.from_numpy(items), seen
    told = recall_ndcg(*given, Held(found, torch.from_numpy(lost), strangers), k)
    assert told == pytest.approx((np.mean(recall), np.mean(ndcg)), abs=1e-12)


def crowd(a: np.ndarray, b: np.ndarray, tau: float = 1.0) -> float:
    return float(np.mean([math.log(sum(math.exp(x @ y / tau) for y in b)) for x in a]))


def test_terms_are_their_formulas() -> None:
    draw = np.random.default_rng(0)
    e, other = draw.normal(size=(9, 4)), draw.normal(size=(5, 4))
    nodes = draw.integers(9, size=(3, 20))
    margin = [e[u] @ e[i] - e[u] @ e[j] for u, i, j in nodes.T]
    expected = np.mean([math.log(1 + math.exp(-d)) for d in margin])
    assert float(bpr(torch.from_numpy(e), torch.from_numpy(nodes))) == pytest.approx(expected, abs=1e-12)
    assert float(uniformity(torch.from_numpy(e), torch.from_numpy(other), 0.3)) == pytest.approx(crowd(e, other, 0.3))


def test_the_loss_of_lightgnn_is_its_formula(layers: list[Tensor]) -> None:
    """Two networks are trained; the loss of the first is that of the network between, taught by the teacher."""
    spec = dict(soft=0.7, embed=0.2, uniform=0.4, tau=0.5, embed_tau=0.3, uniform_tau=0.8, layers=2, partners=3)
    drawn = dict(triples=40, draw=10)
    told: list[tuple[float, np.ndarray]] = []

    def loop(model: WeightedGCN, loss: Callable[[Any], Tensor], epochs: int | None = None) -> History:
        told.append((loss(slice(None)).item(), model().detach().double().numpy()))
        raise StopIteration

    with pytest.raises(StopIteration):
        RECOMMENDATION_RECIPES["lightgnn"](WeightedGCN(ties(), 16, 2), lesson(loop, teacher=layers), **spec, **drawn)
    ((value, own),) = told
    replay = lesson(loop)  # draws the same
    hard, triples, sides = replay.triples(slice(None)), replay.any_triples(40), replay.some(10)
    final = sum(each.double().numpy() for each in layers)
    high = sum(each.double().numpy() for each in layers[2:])

    def margins(e: np.ndarray, nodes: Tensor) -> np.ndarray:
        u, i, j = nodes.numpy()
        return (e[u] * (e[i] - e[j])).sum(1)

    expected = np.mean(np.log1p(np.exp(-margins(own, hard))))
    p, q = (1 / (1 + np.exp(-margins(e, triples) / 0.5)) for e in (final, own))
    cross = -(p * np.log(q) + (1 - p) * np.log(1 - q))
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    expected += 0.7 * np.mean(cross - entropy)
    for side in (each.numpy() for each in sides):
        a, b = (e[side] / np.linalg.norm(e[side], axis=1, keepdims=True) for e in (own, high))
        sims = a @ b.T / 0.3
        expected += 0.2 * np.mean(np.log(np.exp(sims).sum(1)) - np.diag(sims))
        expected += 0.4 * sum(crowd(own[side], own[each.numpy()], 0.8) for each in sides)
    assert value == pytest.approx(expected, rel=1e-5)


def test_the_network_between_has_more_edges_and_is_the_teacher_of_the_student(layers: list[Tensor]) -> None:
    models: list[WeightedGCN] = []
    told: list[float] = []

    def loop(model: WeightedGCN, loss: Callable[[Any], Tensor], epochs: int | None = None) -> History:
        models.append(model)
        told.append(loss(slice(None)).item())
        if len(models) == 2:
            raise StopIteration
        return History()

    spec = dict(soft=0.7, embed=0.0, uniform=0.0, tau=0.5, layers=2, partners=3, triples=40)
    with pytest.raises(StopIteration):
        RECOMMENDATION_RECIPES["lightgnn"](WeightedGCN(ties(), 16, 2), lesson(loop, teacher=layers), **spec)
    between, student = models
    joined = partners(ties().ends, PARTS.users, PARTS.users + PARTS.items, 3)
    assert joined.numel()
    assert torch.equal(between.ties.ends, torch.cat([ties().ends, joined], 1))
    replay = lesson(loop)  # draws the same
    for network, teacher, value in ((between, torch.stack(layers).sum(0), told[0]), (student, between(), told[1])):
        hard, (u, i, j) = replay.triples(slice(None)), replay.any_triples(40)
        own, soft = ((each[u] * (each[i] - each[j])).sum(1) / 0.5 for each in (network(), teacher))
        binary = torch.nn.functional.binary_cross_entropy_with_logits
        extra = binary(own, soft.sigmoid()) - binary(soft, soft.sigmoid())
        assert value == pytest.approx((bpr(network(), hard) + 0.7 * extra).item(), rel=1e-4)


# --- networks and masks -----------------------------------------------------------------------------------------------


def test_with_nothing_away_it_is_lightgcn_on_edges_and_self_loops() -> None:
    found = ties()
    network = WeightedGCN(found, 8, 3)
    loops = torch.arange(found.nodes).expand(2, -1)
    edges = torch.cat([found.ends, found.ends.flip(0), loops], 1)
    theirs = LightGCN(found.nodes, 8, 3, alpha=1.0)
    theirs.embedding.weight.data.copy_(network.embedding)
    assert torch.allclose(network(), theirs.get_embedding(edges), atol=1e-6)
    teacher = Teacher(found, 8, 3)
    assert torch.allclose(teacher(), teacher.plain()(), atol=1e-6)
    assert torch.allclose(teacher(), torch.stack(teacher.spread()).sum(0), atol=1e-6)


def test_gradients_are_those_of_a_dense_matrix() -> None:
    found = Ties(torch.tensor([[0, 0, 1, 2], [3, 4, 4, 3]]), 5)
    network = WeightedGCN(found, 3, 2)
    network.weight.data.uniform_(0.5, 2)
    dense, place = torch.zeros(5, 5), network.weight.detach().clone().requires_grad_()
    dense = dense.index_put((found.ends[0], found.ends[1]), found.value * place)
    dense = dense + dense.T + torch.diag(found.loop)
    x = network.embedding.detach().clone().requires_grad_()
    pull = torch.randn(5, 3)
    ((x + dense @ x + dense @ (dense @ x)) * pull).sum().backward()
    (network() * pull).sum().backward()
    for mine, other in ((network.weight, place), (network.embedding, x)):
        assert torch.allclose(mine.grad, other.grad, atol=1e-6)


def test_what_is_away_stays_away_and_learns_nothing() -> None:
    steps: list[tuple[Tensor, Tensor, Tensor]] = []

    def loop(model: WeightedGCN, loss: Callable[[Any], Tensor], epochs: int | None = None) -> History:
        assert torch.equal(model.weight, torch.ones_like(model.weight)), "kept edges start anew"
        before = model.embedding.detach().clone()
        loss(slice(None)).backward()
        assert model.embedding.grad is not None
        assert not model.embedding.grad[~model.mask].any()
        assert not before[~model.mask].any()
        model.weight.data.uniform_()
        model.embedding.data.add_(0.01 * model.mask)
        model.embedding.grad = None
        steps.append((model.kept.clone(), model.mask.clone(), before))
        return History()

    model, target = WeightedGCN(ties(), 8, 2), Target(0.2, 0.1, 4)
    RECOMMENDATION_RECIPES["pruned_supervised"](model, lesson(loop, target))
    edges, entries = len(noise()), model.embedding.numel()
    assert len(steps) == 5
    for run, ((kept, mask, old), (later, after, new)) in enumerate(itertools.pairwise(steps), 1):
        assert set(later.tolist()) < set(kept.tolist())
        assert not (after & ~mask).any()
        assert abs(len(later) - edges * 0.2 ** (run / 4)) <= 1
        assert abs(int(after.sum()) - entries * 0.1 ** (run / 4)) <= 1
        assert torch.allclose(new[after], old[after] + 0.01), "kept entries go on"


def test_partners_have_most_in_common() -> None:
    draw = np.random.default_rng(0)
    had = draw.random((12, 9)) < 0.3
    had[0] = False  # a user whose items are all held out
    edges = torch.from_numpy(np.stack(np.nonzero(had)))
    edges[1] += 12
    expected = set()
    for matrix, first in ((had.astype(float), 0), (had.T.astype(float), 12)):
        norm = np.sqrt(np.outer(matrix.sum(1), matrix.sum(1)))
        cosine = np.divide(matrix @ matrix.T, norm, out=np.zeros_like(norm), where=norm > 0)
        np.fill_diagonal(cosine, 0)
        for node, row in enumerate(cosine):
            least = np.sort(row)[-2]
            for other in np.flatnonzero((row > least + 1e-6) & (row > 0)):  # ties are left open
                expected.add((first + min(node, other), first + max(node, other)))
    found = {tuple(pair) for pair in partners(edges, 12, 21, 2).T.tolist()}
    assert expected <= found
    assert len(found) <= 2 * 21
    assert all((a < 12) == (b < 12) and a < b for a, b in found)


# --- the recommender --------------------------------------------------------------------------------------------------


def test_a_nearest_neighbour_library_serves_what_was_exported(student: Recommender, tmp_path: Path) -> None:
    import faiss

    student.export(tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as arrays:
        e = {name: arrays[name] for name in arrays.files}
    index = faiss.IndexFlatIP(e["item_embeddings"].shape[1])
    index.add(e["item_embeddings"])
    _, near = index.search(e["user_embeddings"][[4, 9]], 10)
    asked = e["user_ids"][[4, 9]].tolist()
    assert e["item_ids"][near].tolist() == student.recommend(asked, k=10, again=True)
    fresh = student.recommend(asked, k=10)
    for user, items in zip(asked, fresh):
        own = {student.items[i] for u, i in WORLD.known.pairs.T.tolist() if student.users[u] == user}
        ranking = [item for item in np.argsort(-student.scores([user])[0]) if student.items[item] not in own]
        assert items == [student.items[item] for item in ranking[:10]]
    student.export(tmp_path / "e.safetensors")
    assert np.array_equal(load_file(tmp_path / "e.safetensors")["item_embeddings"], e["item_embeddings"])
    with pytest.raises(ValueError, match=r"e\.pkl: embeddings are written to a file \.npz or \.safetensors"):
        student.export(tmp_path / "e.pkl")
    assert {path.name for path in tmp_path.iterdir()} == {"e.npz", "e.safetensors"}


def test_a_saved_recommender_is_the_same_and_as_large_as_it_says(student: Recommender, tmp_path: Path) -> None:
    teacher = Recommender(student.users, student.items, Teacher(ties(), 16, 3).plain(), student.seen)
    for each in (student, teacher):
        path = tmp_path / "r.safetensors"
        each.save(path)
        again = Recommender.load(path)
        assert np.allclose(again.scores(each.users), each.scores(each.users), atol=1e-5)
        assert again.recommend(each.users[:5], k=5) == each.recommend(each.users[:5], k=5)
        assert again.bytes == each.bytes
        header = int.from_bytes(path.read_bytes()[:8], "little")
        assert path.stat().st_size == 8 + header + each.bytes + 8 * student.seen.shape[1]
    edges, entries = len(student.network.kept), int(student.network.mask.sum())
    nodes = len(student.users) + len(student.items)
    assert student.bytes == edges * (8 + 4) + entries * (4 + 1) + nodes * (1 + 4)
    assert teacher.bytes == PARTS.train.shape[1] * 8 + nodes * 16 * 4
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="holds no whole recommender"):
        Recommender.load(path)


def test_what_is_asked_and_not_there_is_named(student: Recommender) -> None:
    with pytest.raises(KeyError, match="no user '3' was in the training; did you mean 3"):
        student.recommend(["3"], k=5)
    with pytest.raises(KeyError, match="no user 500 was in the training"):
        student.recommend([3, 500], k=5)
    with pytest.raises(ValueError, match="k is 61, and there are 60 items"):
        student.recommend([3], k=61)
    with pytest.raises(ValueError, match=r"k is 55, and there are 51 items that user 3 does not have: lower k"):
        student.recommend([3], k=55)
    assert len(student.recommend([3], k=55, again=True)[0]) == 55
    assert student.recommend([], k=5) == []
    for one in ("ann", 3):
        for ask in (student.recommend, student.scores):
            with pytest.raises(
                TypeError, match=rf"users are a list of ids, got {one!r}: for one user write \[{one!r}\]"
            ):
                ask(one)
    with pytest.raises(KeyError, match=r"no user \[3\] was in the training"):
        student.recommend([[3]], k=5)


def test_ids_of_numpy_are_saved(tmp_path: Path) -> None:
    users = [np.int64(u) for u in range(4) for _ in range(10)]
    known = Interactions.of(Rows(users, [np.str_(f"i{(u + k) % 14}") for k, u in enumerate(users)]))
    parts = divided(known, val_share=0.2, least=5)
    train_recommender(parts, None, "pruned_supervised", QUICK, k=2).model.save(tmp_path / "r.safetensors")
    assert Recommender.load(tmp_path / "r.safetensors").users == [0, 1, 2, 3]


# --- files and parts --------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text, newline="")
    return path


def test_ids_are_kept_as_they_are_written(tmp_path: Path) -> None:
    tabs = write(tmp_path / "a.txt", "007\tünder the\t5\r\n8\tb\t3.2466e+05\r\n007\tb\t1\r\n")
    known = Interactions.of(read_rows(tabs))
    assert (known.users, known.items, known.pairs.tolist()) == (
        ["007", "8"],
        ["ünder the", "b"],
        [[0, 1, 0], [0, 1, 1]],
    )
    named = write(tmp_path / "a.csv", 'stars,what,who\n5,"x, y",007\n')
    assert Interactions.of(read_rows(named, ("who", "what"))).items == ["x, y"]
    plain = write(tmp_path / "b.csv", "a,7\nb,7\n")
    assert Interactions.of(read_rows(plain)).users == ["a", "b"]
    lines = write(tmp_path / "a.jsonl", '{"u": 7, "i": "x"}\n{"u": 8, "i": "x"}\n')
    assert Interactions.of(read_rows(lines, ("u", "i"))).users == [7, 8]
    assert Interactions.of(Rows(np.array([7, 8]), torch.tensor([1, 1]))).users == [7, 8]


def test_parts_are_drawn_user_by_user() -> None:
    known = block_world(users=40, items=60, each=15, noise=0.4).known
    parts = divided(known, seed=3, val_share=0.1, test_share=0.2, least=10)
    found = [known.codes(each) for each in (parts.train, parts.val.pairs, parts.test.pairs)]
    assert torch.equal(torch.cat(found).sort().values, known.codes(known.pairs).sort().values)
    counts = [torch.bincount(each[0], minlength=40).unique().tolist() for each in (parts.val.pairs, parts.test.pairs)]
    assert counts == [[1], [4]]  # of 21: a fifth, then a tenth of the other 17
    with pytest.raises(ValueError, match="the part 'test' has no pair"):
        Parts(known, parts.train, parts.val, Held(parts.test.pairs[:, :0], parts.test.lost))
    assert not torch.equal(parts.train, divided(known, seed=4, val_share=0.1, test_share=0.2).train)


@pytest.mark.data
def test_lastfm_has_the_pairs_of_its_card(data_root: Path) -> None:
    parts = load_parts("lastfm", root=data_root)
    assert (parts.users, parts.items, parts.known.pairs.shape[1]) == (1878, 4476, 42135)
    assert parts.test.pairs.shape[1] + int(parts.test.lost.sum()) + 3 == 10533  # 3 pairs of 2 users of the test alone
    assert parts.test.strangers == 2
    assert parts.train.shape[1] + parts.val.pairs.shape[1] == 42135


def test_the_test_reaches_neither_teacher_nor_student() -> None:
    other = Held(PARTS.test.pairs.roll(1, 1)[:, ::2], PARTS.test.lost + 1, 3)
    spoilt = Parts(PARTS.known, PARTS.train, PARTS.val, other)
    one, two = (
        distill_recommender(each, dict(layers=2, width=8, epochs=3, **FAST), LIGHT, student=QUICK, k=5).outcomes
        for each in (PARTS, spoilt)
    )
    for role in one:
        assert np.array_equal(one[role].model.scores([0, 1]), two[role].model.scores([0, 1]))
        assert one[role].val == two[role].val
    assert one["student"].recall != two["student"].recall


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a\tx\nb\n", "pairs.txt, line 2 has 1 column, and the pair is in columns 0 and 1, parted by tabs"),
        ("a,x\nb,y\n", "pairs.txt, line 1 has 1 column, and"),
        ("a\tx\nb\t \n", "pairs.txt, line 2: the user has no item"),
        ("a\tx\n\ty\n", "pairs.txt, line 2: the item has no user"),
        ("a\tx\nb\tx\na\tx\n", "pairs.txt, line 3: user 'a' has item 'x' already, see .*pairs.txt, line 1"),
        ("user\titem\n1\t2\n", "pairs.txt, line 1: 'user' is no number, as every other user is"),
        ("", "pairs.txt has no pair of a user and an item"),
        ("a\tx\nb\ty\n", "no pair is left for the part 'val'"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        read_parts(write(tmp_path / "pairs.txt", text), test_share=0.0 if "val" in said else 0.2)


def test_who_has_nothing_and_what_nobody_has_are_named() -> None:
    pairs = torch.tensor([[0, 1], [0, 0]])
    with pytest.raises(ValueError, match="the user 'c' has no item"):
        Interactions(pairs, ["a", "b", "c"], [7])
    with pytest.raises(ValueError, match="nobody has the item 8"):
        Interactions(pairs, ["a", "b"], [7, 8])
    with pytest.raises(ValueError, match="user 'a' has item 7 twice"):
        Interactions(pairs[:, [0, 1, 0]], ["a", "b"], [7])
    with pytest.raises(ValueError, match="the user 'a' is listed twice"):
        Interactions(pairs, ["a", "a"], [7])
    with pytest.raises(TypeError, match=r"place 0: the user \('a', 1\) is neither a string nor a whole number"):
        Interactions(pairs[:, :1], [("a", 1)], [7])
    with pytest.raises(TypeError, match="the ids of users are a list, got ndarray"):
        Interactions(pairs, np.array([1, 2]), [7])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="pair 1: the user 2 is a int, others are not"):
        Interactions.of(Rows(["a", 2], [1, 1]))
    with pytest.raises(TypeError, match=r"pair 0: the item 1\.5 is neither a string nor a whole number"):
        Interactions.of(Rows(["a"], [1.5]))
    merged = Interactions.of(Rows(["a", "a"], [1, 1]), duplicates="merge")
    assert merged.pairs.shape == (2, 1)


def test_a_test_of_unknown_ids_is_refused_or_missed() -> None:
    known = Interactions.of(Rows(["a", "b"], [1, 2]))
    with pytest.raises(ValueError, match="pair 1: the user 'c' is not in the training"):
        held(Rows(["a", "c"], [2, 1]), known)
    with pytest.raises(ValueError, match="pair 0: the item 3 is not in the training"):
        held(Rows(["a"], [3]), known)
    with pytest.raises(ValueError, match="pair 0: user 'a' has item 1 in the training already"):
        held(Rows(["a"], [1]), known)
    with pytest.raises(ValueError, match="no pair of the test has both a user and an item of the training"):
        divided(known, held(Rows(["c"], [3]), known, unknown="miss"))
    found = held(Rows(["a", "a", "c", "c"], [2, 3, 1, 2]), known, unknown="miss")
    assert (found.pairs.tolist(), found.lost.tolist(), found.strangers) == ([[0], [1]], [1, 0], 1)


def test_options_that_nothing_would_read_are_refused(tmp_path: Path) -> None:
    pairs, test = write(tmp_path / "a.tsv", "a\tx\nb\tx\n"), write(tmp_path / "t.tsv", "a\ty\n")
    with pytest.raises(ValueError, match="test_share is drawn where there is no test, and there is one"):
        read_parts(pairs, test, unknown="miss", test_share=0.2)
    with pytest.raises(ValueError, match="unknown says what to do about ids of the file test, and there is none"):
        read_parts(pairs, unknown="miss")


def test_a_teacher_of_other_pairs_is_refused() -> None:
    with pytest.raises(ValueError, match=r"teacher is a list of embeddings \(150, width\)"):
        train_recommender(PARTS, [torch.zeros(149, 8)] * 3, LIGHT, QUICK, k=5)


def test_options_that_do_not_fit_are_named_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []
    monkeypatch.setattr("graphkd.training.loop.backward", lambda *given: trained.append(1))
    few: dict[str, Any] = dict(layers=1, width=4)
    for kind, said, given in (
        (ValueError, "k is 61, and there are 60 items: lower k", dict(k=61)),
        (KeyError, "no data set of users and items is called 'blokcs'; did you mean 'blocks'", dict(data="blokcs")),
        (TypeError, "data 'blocks' has no option 'usres'", dict(data=dict(type="blocks", usres=3))),
        (TypeError, "data 'file' needs the option train", dict(data=dict(type="file"))),
        (TypeError, "teacher has no option 'layer'; did you mean 'layers'", dict(teacher=dict(layer=2))),
        (KeyError, "no teacher of recommenders is called 'sage'", dict(teacher=dict(type="sage"))),
        (ValueError, "edges is the share that is left, above 0 and at most 1", dict(student=dict(edges=0.0))),
        (ValueError, "runs is a whole number from 1", dict(student=dict(runs=0))),
        (KeyError, "method.*'lightgmm'.*did you mean 'lightgnn'", dict(method="lightgmm")),
        (ValueError, "the temperature tau must be positive", dict(method=dict(type="lightgnn", tau=0.0))),
        (ValueError, "temperature of the uniformity must be positive", dict(method=dict(LIGHT, uniform_tau=0.0))),
        (ValueError, "lightgnn needs a teacher of 2 layers or more", dict(teacher=few)),
        (TypeError, "data are a name", dict(data=7)),
    ):
        with pytest.raises(kind, match=said):
            distill_recommender(**{"data": PARTS, "k": 5, **given})
    greedy = Interactions.of(Rows(["a"] * 20 + ["b"], [*range(20), 0]))
    whole = Parts(greedy, greedy.pairs, PARTS.val, PARTS.test)
    with pytest.raises(ValueError, match="user 'a' has all 20 items: nothing is left to recommend"):
        distill_recommender(whole)
    assert not trained


# --- the command ------------------------------------------------------------------------------------------------------

TINY = """
data = dict(type="blocks", users=30, items=45, each=10)
k = 5
teacher = dict(layers=2, width=8, epochs=2, lr=0.01)
student = dict(edges=0.2, entries=0.1, runs=2, epochs=1)
methods = [dict(type="lightgnn", layers=2, triples=50), dict(type="pruned_supervised", by="chance")]
"""


def test_the_command_logs_what_the_api_finds_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, out, kept = tmp_path / "tiny.py", tmp_path / "log.json", tmp_path / "kept"
    config.write_text(TINY)
    command.main([str(config), "--seeds", "1", "--out", str(out), "--save", str(kept)])
    logs = json.loads(out.read_text())
    roles = [(log["role"], log["method"]) for log in logs]
    assert roles == [
        ("teacher", "lightgcn"),
        ("control", "pruned_supervised"),
        ("distilled", "lightgnn"),
        ("reference", "pruned_supervised(by=chance)"),
    ]
    spec = command.read_config(config)
    given = (spec["data"], spec["teacher"], spec["methods"][0])
    found = distill_recommender(*given, student=spec["student"], k=5).outcomes["student"]
    metrics = logs[2]["metrics"]
    assert metrics["recall@5"] == pytest.approx(100 * found.recall)
    assert metrics["ndcg@5"] == pytest.approx(100 * found.ndcg)
    assert (metrics["entries, %"], metrics["kB"]) == (pytest.approx(10, abs=0.2), found.bytes / 1000)
    assert logs[0]["latency_ms"]["all_users"] > 0
    saved = Recommender.load(kept / f"{tmp_path.name}-tiny-lightgnn-seed0.safetensors")
    assert saved.recommend([0, 1], k=5) == found.model.recommend([0, 1], k=5)
    table = capsys.readouterr().out
    assert "| distilled, lightgnn | 1 |" in table
    assert f"student {kept}" in table
    command.main([str(config), "--seeds", "2", "--out", str(out)])
    assert json.loads(out.read_text())[:4] == logs


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("triples=50", "embed_tau=0.0"), "the temperature tau must be positive, got 0.0"),
        (("k = 5", "k = 46"), "k is 46, and there are 45 items"),
        (("layers=2, width", "layrs=2, width"), "teacher has no option 'layrs'"),
        (("triples=50", "triple=50"), "method 'lightgnn' has no option 'triple'"),
        (('by="chance"', 'by="weight"'), "methods lists .* twice, or the control"),
        (("k = 5", "kk = 5"), "a key 'kk', which no config of recommenders has"),
        (('type="blocks"', 'type="file", train="no.tsv"'), "data 'file' has no option 'users'"),
    ],
)
def test_a_wrong_config_ends_in_one_sentence_and_writes_nothing(
    change: tuple[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "tiny.py"
    assert change[0] in TINY
    config.write_text(
        TINY.replace(*change).replace('by="weight"', "") if "weight" in change[1] else TINY.replace(*change)
    )
    monkeypatch.setattr("graphkd.training.loop.backward", lambda *given: pytest.fail("something was trained"))
    with pytest.raises(SystemExit) as ended:
        command.main([str(config), "--seeds", "1", "--out", str(tmp_path / "out" / "log.json")])
    assert re.search(said, str(ended.value)), ended.value
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.py"]


def test_a_place_for_students_that_is_a_file_is_named_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write(tmp_path / "tiny.py", TINY)
    monkeypatch.setattr("graphkd.training.loop.backward", lambda *given: pytest.fail("something was trained"))
    with pytest.raises(SystemExit, match=r"tiny\.py is a file; choose another folder"):
        command.main([str(config), "--seeds", "1", "--out", str(tmp_path / "log.json"), "--save", str(config)])


def test_the_file_of_a_method_of_ones_own_lies_in_the_folder() -> None:
    (file,) = command.students(Path("kept"), "mine", dict(methods=[dict(type="nets/own.py:mine")]), 0)
    assert file == Path("kept/mine-nets.own.py.mine-seed0.safetensors")

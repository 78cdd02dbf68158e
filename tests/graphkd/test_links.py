"""Links: pairs, splits, measures and walks against brute force; a student that learns from a teacher of links."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit

import graphkd
from graphkd.data import Graph, digits
from graphkd.links import (
    LinkResult,
    LinkSplit,
    LinkStudent,
    NonEdges,
    auc,
    distill_links,
    hits,
    once,
    prod,
    train_link_student,
    train_link_teacher,
    tran,
)
from graphkd.links.lesson import LinkLesson
from graphkd.links.network import LinkMLP
from graphkd.links.recipes.link_supervised import link_supervised
from graphkd.links.recipes.llp import llp
from graphkd.sparse.edges import both_ways
from graphkd.sparse.walks import Walks
from graphkd.training.loop import History

TEACHER = dict(type="sage", hidden=32, epochs=60, lr=0.02)
STUDENT = LinkStudent(hidden=(32, 32), dropout=0.0, epochs=25, lr=0.01, batch_size=2048)


def edges_of(pairs: Tensor) -> set[tuple[int, int]]:
    return {(min(pair), max(pair)) for pair in pairs.T.tolist()}


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def graph() -> Graph:
    """Digits whose pixels became noisy after they were joined, or else features alone would tell every edge."""
    clean = digits()
    return replace(clean, x=clean.x + 0.5 * torch.randn(clean.x.shape, generator=draw()))


@pytest.fixture(scope="module")
def result(graph: Graph) -> LinkResult:
    return distill_links(graph, TEACHER, dict(type="llp", lam=0.1), student=STUDENT, seed=0)


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("nodes", "count"), [(2, 0), (7, 5), (40, 300), (40, 0)])
def test_non_edges_are_all_pairs_but_the_edges(nodes: int, count: int) -> None:
    edges = torch.randint(nodes, (2, count))
    free = NonEdges(edges, nodes)
    expected = set(itertools.combinations(range(nodes), 2)) - edges_of(edges)
    assert len(free) == len(expected)
    assert set(map(tuple, free[torch.arange(len(free))].T.tolist())) == expected


def test_the_numbering_of_pairs_is_exact_in_a_graph_of_many_nodes() -> None:
    nodes = 50_000_000
    edges = torch.tensor([[0, nodes - 2], [1, nodes - 1]])
    free = NonEdges(edges, nodes)
    last = free[torch.tensor([0, len(free) - 1])].T.tolist()
    assert last == [[0, 2], [nodes - 3, nodes - 1]]
    high = torch.randint(1, nodes, (1000,), generator=draw())
    low = (torch.rand(1000, generator=draw(1), dtype=torch.float64) * high).long()
    code = high * (high - 1) // 2 + low
    assert torch.equal(free[code - 1].sort(0).values, torch.stack([low, high]))  # edge (0, 1) stands before each


def test_non_edges_are_drawn_uniformly_and_sampled_without_repetition() -> None:
    edges = torch.tensor([[0, 1, 3], [1, 2, 4]])
    free = NonEdges(edges, 5)
    drawn = free.draw(14_000, draw())
    _, counts = drawn.unique(dim=1, return_counts=True)
    assert len(counts) == 7
    assert (counts - 2000).abs().max() < 5 * (14_000 * 6 / 49) ** 0.5
    for count in (1, 2, 7):
        assert len(edges_of(free.sample(count, draw()))) == count
    many = NonEdges(edges, 2000).sample(500, draw())
    assert len(edges_of(many)) == 500
    with pytest.raises(ValueError, match="7 non-edges, fewer than the 8"):
        free.sample(8, draw())
    with pytest.raises(ValueError, match="the graph is complete"):
        NonEdges(torch.tensor([[0, 0, 1], [1, 2, 2]]), 3).draw(1, draw())


# --- measures ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 20])
def test_measures_against_brute_force(k: int) -> None:
    one, other = torch.randn(50, generator=draw()) + 1, torch.randn(40, generator=draw(1))
    one[:5] = other[:5]  # ties
    ranks = [sum(1 for score in other.tolist() if score >= mine) for mine in one.tolist()]
    assert hits(one, other, k) == sum(rank < k for rank in ranks) / 50
    wins = sum((a > b) + 0.5 * (a == b) for a in one.tolist() for b in other.tolist())
    assert auc(one, other) == pytest.approx(wins / 2000)
    with pytest.raises(ValueError, match="Hits@41 needs 41 non-edges"):
        hits(one, other, 41)


# --- splits -----------------------------------------------------------------------------------------------------------


def test_transductive_split_deals_every_edge_once(graph: Graph) -> None:
    split, edges = tran(graph, 0), once(graph.edge_index)
    parts = [edges_of(part) for part in (split.train, split.val, split.test["test"])]
    assert set.union(*parts) == edges_of(edges)
    assert sum(map(len, parts)) == edges.shape[1]
    assert (len(parts[1]), len(parts[2])) == (int(0.05 * edges.shape[1]), int(0.1 * edges.shape[1]))
    none = [edges_of(part) for part in (split.val_none, split.test_none)]
    assert list(map(len, none)) == [len(parts[1]), len(parts[2])]
    assert not none[0] & none[1]
    assert not set.union(*none) & edges_of(edges)
    assert torch.equal(tran(graph, 0).test_none, split.test_none)
    assert edges_of(tran(graph, 1).val) != parts[1]


def test_production_split_hides_the_new_nodes_and_tells_the_kinds_apart(graph: Graph) -> None:
    split, edges = prod(graph, 0, new=0.2), edges_of(once(graph.edge_index))
    old = set(split.seen.tolist())
    assert len(old) == len(graph) - int(0.2 * len(graph))
    assert torch.equal(split.x_seen, graph.x[split.seen])
    for kind, count in (("old_old", 0), ("old_new", 1), ("new_new", 2)):
        found = edges_of(split.test[kind])
        of_kind = {edge for edge in edges if len(set(edge) - old) == count}
        assert found <= of_kind
        assert len(found) == int(0.1 * len(of_kind))
    tested = edges_of(split.all_tested)
    assert tested == set.union(*(edges_of(split.test[kind]) for kind in ("old_old", "old_new", "new_new")))
    assert edges_of(split.visible) == edges - tested
    learnt, chosen = (edges_of(split.seen[part]) for part in (split.train, split.val))
    assert not learnt & chosen
    assert learnt | chosen < edges_of(split.visible)
    assert not edges_of(split.seen[split.val_none]) & edges
    assert not edges_of(split.test_none) & edges


def test_a_split_that_leaves_nothing_is_named(graph: Graph) -> None:
    few = replace(graph, edge_index=graph.edge_index[:, :10])
    with pytest.raises(ValueError, match="leaves no edge to val"):
        tran(few, 0)
    with pytest.raises(ValueError, match=r"must be positive and sum to less than 1, got \(0.5, 0.5\)"):
        tran(graph, 0, val=0.5, test=0.5)
    with pytest.raises(KeyError, match="no split is called 'prods'; did you mean 'prod'"):
        distill_links(graph, split="prods")


# --- walks and what a lesson shows ------------------------------------------------------------------------------------


def test_walks_follow_edges_and_choose_evenly() -> None:
    edges = torch.tensor([[0, 0, 0, 1, 2], [1, 2, 3, 0, 3]])
    walks = Walks(edges, 5)
    steps = walks.walk(torch.tensor([0, 1, 2, 4]).repeat(3000), 3, draw())
    path = torch.cat([torch.tensor([0, 1, 2, 4]).repeat(3000)[:, None], steps], 1)
    joined = set(map(tuple, edges.T.tolist()))
    for one, other in itertools.pairwise(path.T):
        assert set(zip(one.tolist(), other.tolist())) <= joined | {(3, 3), (4, 4)}  # they have no way out
    first = torch.bincount(steps[0::4, 0], minlength=4)
    assert (first[1:] - 1000).abs().max() < 150


def lesson_of(split: LinkSplit, seed: int = 0, **more: object) -> LinkLesson:
    """A lesson whose loop takes one step on some edges and one on all, and hands back the losses."""

    def loop(model: object, loss: object, count: int) -> History:
        assert callable(loss)
        history = History()
        history.seconds = [loss(torch.arange(100)).item(), loss(slice(None)).item()]
        return history

    return LinkLesson(split.x_seen, split.train, loop, draw(seed), **more)  # type: ignore[arg-type]


def test_what_is_drawn_comes_from_the_edges_to_learn_from_alone(graph: Graph) -> None:
    split = tran(graph, 0)
    lesson, known = lesson_of(split), edges_of(split.train)
    pairs, truth = lesson.labelled(torch.arange(50))
    assert torch.equal(pairs[:, truth == 1], split.train[:, :50])
    assert not edges_of(pairs[:, truth == 0]) & known
    nodes = torch.arange(len(graph))
    near = lesson.walk(nodes, 1)
    assert edges_of(torch.stack([nodes, near[:, 0]])) - {(n, n) for n in range(len(graph))} <= known
    assert torch.equal(lesson.anchors(slice(None)), nodes)
    assert len(lesson.anchors(torch.arange(len(lesson) // 10))) == pytest.approx(len(graph) / 10, abs=2)


def test_lam_one_is_the_control_and_lam_zero_reads_no_edge_as_a_label(graph: Graph) -> None:
    split, model = tran(graph, 0), LinkMLP(64, (16, 16))
    never = lesson_of(split, teacher=lambda pairs: pytest.fail("asked"))
    assert llp(model, never, lam=1).seconds == link_supervised(model, lesson_of(split)).seconds
    blind = lesson_of(split, teacher=lambda pairs: (pairs[0] - pairs[1]).float() / 100)
    object.__setattr__(blind, "labelled", lambda batch: pytest.fail("read"))
    assert min(llp(model, blind, lam=0).seconds) > 0
    for options in (dict(lam=1.5), dict(hops=0), dict(far=-1)):
        with pytest.raises(ValueError, match="llp: "):
            llp(model, lesson_of(split), **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="learns from a teacher"):
        llp(model, lesson_of(split))


def test_a_student_that_scores_as_its_teacher_pays_for_neither_relation(graph: Graph) -> None:
    split, model = tran(graph, 0), LinkMLP(64, (16, 16))
    shifted = lesson_of(split, teacher=lambda pairs: model(graph.x, pairs).detach() + 3)
    assert max(map(abs, llp(model, shifted, lam=0, rank=0).seconds)) < 1e-6
    same = lesson_of(split, teacher=lambda pairs: model(graph.x, pairs).detach())
    assert llp(model, same, lam=0, delta=0.001).seconds == pytest.approx([0, 0], abs=1e-6)


# --- from end to end --------------------------------------------------------------------------------------------------


def test_a_taught_student_beats_its_control_where_features_say_little(papers: Graph) -> None:
    student = LinkStudent(hidden=(64, 64), dropout=0.3, epochs=40, lr=0.01, batch_size=512)
    teacher, gain = dict(type="sage", hidden=64, epochs=60, lr=0.01), []
    for seed in (0, 1):
        found = distill_links(papers, teacher, "llp", student=student, seed=seed)
        gain.append(found.auc["student"]["test"] - found.auc["control"]["test"])
    assert min(gain) > 0.03


def test_dse_reconstructs_the_scores_that_its_teacher_gives(papers: Graph) -> None:
    """Scores of pairs that nobody saw in training follow the teacher's; those of a student of labels alone do not."""
    split = tran(papers, 0)
    taught = train_link_teacher(split, dict(type="sage", hidden=64, epochs=60, lr=0.01))
    assert taught.score is not None
    student = LinkStudent(hidden=(64, 64), dropout=0.0, epochs=40, lr=0.01, batch_size=512)
    pairs = torch.cat([split.test["test"], split.test_none], 1)
    alike = []
    for method in (dict(type="dse", lam=0.0), "link_supervised"):
        model = train_link_student(split, taught.score, method, student).model
        alike.append(np.corrcoef(model.decision_function(papers.x, pairs), taught.score(pairs).numpy())[0, 1])
    assert alike[0] > alike[1] + 0.2


def test_the_teacher_knows_the_edges(result: LinkResult) -> None:
    assert result.auc["teacher"]["test"] > 0.95


def test_reported_measures_are_those_of_the_definition(graph: Graph, result: LinkResult) -> None:
    split = tran(graph, 0)
    student, outcome = result.student, result.outcomes["student"]
    assert outcome.hits["test"] == pytest.approx(student.score(graph.x, split.test["test"], split.test_none))
    assert outcome.val == pytest.approx(student.score(graph.x, split.val, split.val_none))
    for each in result.outcomes.values():
        assert each.oracle_test_best is not None
        assert each.oracle_test_best >= each.hits["test"]
        assert each.latency > 0
    teacher = result.outcomes["teacher"]
    assert teacher.score is not None
    pairs = torch.cat([split.test["test"], split.test_none], 1)
    one, other = teacher.score(pairs).split([split.test["test"].shape[1], split.test_none.shape[1]])
    assert hits(one, other) == pytest.approx(teacher.hits["test"])


def test_no_edge_of_validation_or_test_reaches_anything_that_learns(graph: Graph) -> None:
    """Other edges to select and test on, but the same ones to learn from: the same parameters after the same epochs."""
    split = tran(graph, 0)
    other = replace(
        split, val=split.val_none, val_none=split.val, test={"test": split.test_none}, test_none=split.all_tested
    )
    quick = LinkStudent(hidden=(16, 16), epochs=1, batch_size=2048)
    found = []
    for each in (split, other):
        taught = train_link_teacher(each, dict(type="sage", hidden=16, epochs=1))
        assert taught.score is not None
        student = train_link_student(each, taught.score, "llp", quick).model
        found.append((taught.score(split.train), student.decision_function(graph.x, split.train)))
    assert torch.equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])
    moved = replace(split, x=graph.x.flip(1))  # features do reach it
    assert not torch.equal(
        train_link_teacher(moved, dict(type="sage", hidden=16, epochs=1)).score(split.train), found[0][0]
    )  # type: ignore[misc]


def test_production_tests_each_kind_and_new_nodes_reach_nothing_that_learns(graph: Graph) -> None:
    split = prod(graph, 0)
    quick = LinkStudent(hidden=(16, 16), epochs=2, batch_size=2048)
    noise, hidden = graph.x.clone(), torch.ones(len(graph), dtype=torch.bool).index_fill(0, split.seen, False)
    noise[hidden] = torch.randn(int(hidden.sum()), 64)
    pairs = split.seen[split.train]
    found = []
    for each in (split, replace(split, x=noise)):
        taught = train_link_teacher(each, dict(type="sage", hidden=16, epochs=2))
        student = train_link_student(each, taught.score, "llp", quick)
        assert set(student.hits) == set(taught.auc) == {"all", "old_old", "old_new", "new_new"}
        found.append(student.model.decision_function(graph.x, pairs))
    assert np.array_equal(*found)


def test_a_student_needs_features_alone_and_survives_its_file(graph: Graph, result: LinkResult, tmp_path: Path) -> None:
    pairs = torch.tensor([[3, 5, 9], [4, 5, 1]])
    scores = result.student.decision_function(graph.x, pairs)
    np.testing.assert_allclose(result.student.decision_function(graph.x, pairs.flip(0)), scores, rtol=1e-5)
    rows = graph.x[[3, 4]].numpy()
    np.testing.assert_allclose(result.student.decision_function(rows, torch.tensor([[0], [1]])), scores[:1], rtol=1e-4)
    result.student.save(tmp_path / "links.safetensors")
    again = LinkStudent.load(tmp_path / "links.safetensors")
    assert np.array_equal(again.decision_function(graph.x, pairs), scores)
    graphkd.StudentClassifier(epochs=1).fit(rows, [0, 1]).save(tmp_path / "classes.safetensors")
    with pytest.raises(ValueError, match="holds no student of links"):
        LinkStudent.load(tmp_path / "classes.safetensors")


def test_bad_input_is_named(graph: Graph, result: LinkResult) -> None:
    with pytest.raises(ValueError, match="pairs name rows from 0 to 1797; X has the rows 0 to 1796"):
        result.student.decision_function(graph.x, torch.tensor([[0], [1797]]))
    with pytest.raises(ValueError, match="X has 3 features, but LinkStudent is expecting 64 features"):
        result.student.decision_function(graph.x[:, :3], torch.tensor([[0], [1]]))
    with pytest.raises(ValueError, match="edges are empty"):
        LinkStudent().fit(graph.x, torch.empty(2, 0, dtype=torch.long))
    edges = torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="Hits@20 needs 20 non-edges; validation has 2"):
        LinkStudent().fit(graph.x, edges, validation=(graph.x, edges, edges))
    with pytest.raises(TypeError, match="method 'llp' has no option 'lamb'"):
        distill_links(graph, method=dict(type="llp", lamb=1))


@pytest.mark.parametrize("form", ["float64", "csr", "memmap"])
def test_features_may_be_held_in_any_form(graph: Graph, form: str, tmp_path: Path) -> None:
    split, quick = tran(graph, 0), LinkStudent(hidden=(16, 16), dropout=0.0, epochs=2, batch_size=2048, random_state=0)
    plain = graph.x.numpy()
    np.save(tmp_path / "x.npy", plain)
    held = {
        "float64": plain.astype(float),
        "csr": csr_matrix(plain),
        "memmap": np.load(tmp_path / "x.npy", mmap_mode="r"),
    }
    ranked = (held[form], split.val, split.val_none)
    found = quick.fit(held[form], split.train, validation=ranked).decision_function(held[form], split.val)
    again = quick.fit(graph.x, split.train, validation=(graph.x, *ranked[1:])).decision_function(graph.x, split.val)
    np.testing.assert_allclose(found, again, rtol=1e-3, atol=1e-4)
    broken = held[form].copy()
    broken[7, 3] = np.nan
    with pytest.raises(ValueError, match="features are NaN or infinite"):
        quick.fit(broken, split.train)


def test_a_teacher_may_have_losses_of_its_own_and_may_be_trained_already(graph: Graph) -> None:
    split = tran(graph, 0)

    class Far(nn.Linear):
        def forward(self, x: Tensor, edge_index: Tensor | None = None) -> Tensor:
            return super().forward(x)

        def auxiliary_loss(self) -> Tensor:
            return (self.weight - 7).square().mean()

    few = replace(split, train=split.train[:, :200])
    taught = train_link_teacher(few, dict(type=lambda features, width: Far(features, width), epochs=3, lr=1.0))
    assert taught.model.encoder.weight.mean() > 0.5  # it starts at 0 and is drawn to 7
    again = train_link_teacher(few, taught.model)
    assert again.hits == taught.hits
    assert (again.val, again.seconds) == (None, 0)


def test_a_graph_without_labels_will_do(graph: Graph) -> None:
    data = SimpleNamespace(x=graph.x, edge_index=graph.edge_index)
    quick = LinkStudent(hidden=(8,), epochs=1, batch_size=2048)
    found = graphkd.distill_links(data, dict(type="sage", hidden=8, epochs=1), student=quick)
    assert found.hits.keys() == {"teacher", "control", "student"}
    labelled = graphkd.distill_links(graph, dict(type="sage", hidden=8, epochs=1), student=quick)
    assert labelled.hits == found.hits


def test_edges_count_once_in_either_direction(graph: Graph) -> None:
    edges = torch.tensor([[0, 1, 2, 4, 4], [1, 0, 5, 4, 5]])
    assert once(edges).tolist() == [[0, 2, 4], [1, 5, 5]]
    assert torch.equal(once(both_ways(once(edges))), once(edges))


def test_the_parts_of_a_split_of_ones_own_are_used_as_they_are() -> None:
    data = Data(x=digits().x, edge_index=digits().edge_index)
    torch.manual_seed(0)
    parts = RandomLinkSplit(0.05, 0.1, is_undirected=True)(data)
    quick = LinkStudent(hidden=(16,), epochs=2)
    result = distill_links(data, dict(type="sage", hidden=16, epochs=2), student=quick, split=parts)
    test = parts[2]
    held = test.edge_label_index[:, test.edge_label == 1]
    truth, found = (
        result.student.decision_function(data.x, test.edge_label_index[:, test.edge_label == kind]) for kind in (1, 0)
    )
    expected = roc_auc_score(np.repeat([1, 0], [len(truth), len(found)]), np.concatenate([truth, found]))
    assert result.auc["student"]["test"] == pytest.approx(expected, abs=1e-6)
    assert held.shape[1] == len(truth)


def test_a_part_of_a_split_is_no_graph_and_a_leak_is_refused() -> None:
    data = Data(x=digits().x, edge_index=digits().edge_index)
    part, *_ = RandomLinkSplit(0.05, 0.1, is_undirected=True)(data)
    with pytest.raises(ValueError, match=r"edge_label_index.*split=\(train, val, test\)"):
        distill_links(part)
    with pytest.raises(ValueError, match=r"are among those to learn from.*is_undirected=True"):
        distill_links(data, split=RandomLinkSplit(0.05, 0.1)(data))
    with pytest.raises(ValueError, match="the validation part of the split has no edge_label_index"):
        distill_links(data, split=(part, data, data))

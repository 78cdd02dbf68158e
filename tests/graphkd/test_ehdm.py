"""Heuristics on links against networkx and dense algebra; students that they teach, and the gate that joins them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphkd.data import digits
from graphkd.links import (
    HEURISTICS,
    Heuristic,
    LinkSplit,
    LinkStudent,
    auc,
    distill_links,
    heuristics,
    hits,
    mrr,
    train_link_student,
    train_link_teacher,
    tran,
)
from graphkd.links.lesson import LinkLesson
from graphkd.links.network import LinkEnsemble, LinkGate
from graphkd.links.recipes.ehdm import _train_gate, ehdm
from graphkd.training.loop import History, Schedule, rehearsal, train

NODES = 42
QUICK = LinkStudent(hidden=(32, 32), dropout=0.0, epochs=12, lr=0.01, batch_size=2048)
TWO = dict(type="ehdm", heuristics=["adamic_adar", dict(type="pagerank", steps=5)], method=dict(type="llp", walks=2))


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def split() -> LinkSplit:
    """Digits whose pixels became noisy after they were joined, or else features alone would tell every edge."""
    clean = digits()
    return tran(replace(clean, x=clean.x + 0.5 * torch.randn(clean.x.shape, generator=draw())), 0)


@pytest.fixture(params=["kept", "block by block"])
def edges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """A graph with loops, double edges and lone nodes; tables of all pairs are kept, or made of a few nodes at once."""
    if request.param != "kept":
        monkeypatch.setattr(heuristics, "_TABLE", 0)
        monkeypatch.setattr(heuristics, "_ENTRIES", 5 * NODES)
        monkeypatch.setattr(heuristics, "_PAIRS", 7)
    return torch.randint(NODES - 2, (2, 80), generator=draw())


def graph_of(edges: Tensor) -> Any:
    graph = networkx.Graph()
    graph.add_nodes_from(range(NODES))
    graph.add_edges_from((a, b) for a, b in edges.T.tolist() if a != b)
    return graph


PAIRS = torch.combinations(torch.arange(NODES)).T[:, torch.randperm(NODES * (NODES - 1) // 2, generator=draw(1))]


def of_networkx(score: Callable[..., Any]) -> Callable[[Any, int, int], float]:
    return lambda graph, u, v: next(score(graph, [(u, v)]))[2]


THEIRS: dict[str, Callable[[Any, int, int], float]] = {
    "common_neighbours": lambda graph, u, v: len(list(networkx.common_neighbors(graph, u, v))),
    "adamic_adar": of_networkx(networkx.adamic_adar_index),
    "resource_allocation": of_networkx(networkx.resource_allocation_index),
    "jaccard": of_networkx(networkx.jaccard_coefficient),
    "preferential_attachment": of_networkx(networkx.preferential_attachment),
}


# --- heuristics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(THEIRS))
def test_scores_are_those_of_networkx(edges: Tensor, name: str) -> None:
    graph = graph_of(edges)
    expected = [THEIRS[name](graph, u, v) for u, v in PAIRS.T.tolist()]
    np.testing.assert_allclose(Heuristic(name, edges, NODES)(PAIRS), expected, rtol=1e-6)


@pytest.mark.parametrize("cap", [1, 3, 6])
@pytest.mark.parametrize("own", [True, False])
def test_paths_are_those_of_networkx(edges: Tensor, cap: int, own: bool) -> None:
    graph, expected = graph_of(edges), []
    for u, v in PAIRS.T.tolist():
        around = graph.copy()
        if not own and graph.has_edge(u, v):
            around.remove_edge(u, v)
        length = networkx.shortest_path_length(around, u, v) if networkx.has_path(around, u, v) else np.inf
        expected.append(1 / length if length <= cap else 1 / 999)
    found = Heuristic(dict(type="shortest_path", cap=cap, own=own), edges, NODES)(PAIRS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_walks_are_those_of_powers_of_the_matrix(edges: Tensor) -> None:
    a = networkx.to_numpy_array(graph_of(edges), nodelist=range(NODES))
    powers = [np.linalg.matrix_power(0.3 * a, length) for length in (1, 2, 3)]
    found = Heuristic(dict(type="katz", beta=0.3, length=3), edges, NODES)(PAIRS)
    np.testing.assert_allclose(found, sum(powers)[PAIRS[0], PAIRS[1]], rtol=1e-5, atol=1e-7)
    step = a / np.maximum(a.sum(1, keepdims=True), 1)
    pi = sum(0.2 * 0.8**length * np.linalg.matrix_power(step, length) for length in range(5))
    found = Heuristic(dict(type="pagerank", restart=0.2, steps=4), edges, NODES)(PAIRS)
    np.testing.assert_allclose(found, (pi + pi.T)[PAIRS[0], PAIRS[1]], rtol=1e-5, atol=1e-7)


def test_a_heuristic_takes_pairs_of_any_shape_either_way_and_of_a_node_with_itself(edges: Tensor) -> None:
    square = torch.cartesian_prod(torch.arange(NODES), torch.arange(NODES)).T.view(2, NODES, NODES)
    for name in HEURISTICS:
        found = Heuristic(name, edges, NODES)(square)
        assert found.isfinite().all()
        torch.testing.assert_close(found, found.T)
        torch.testing.assert_close(Heuristic(name, edges.flip(0), NODES)(square), found)


def test_what_is_wrong_with_a_heuristic_is_named() -> None:
    edges = torch.tensor([[0], [1]])
    with pytest.raises(KeyError, match="no heuristic is called 'adamic'; did you mean 'adamic_adar'"):
        Heuristic("adamic", edges, 2)
    with pytest.raises(TypeError, match="heuristic 'katz' has no option 'steps'"):
        Heuristic(dict(type="katz", steps=3), edges, 2)
    for spec, message in (
        (dict(type="shortest_path", cap=0), "cap is a whole number from 1"),
        (dict(type="shortest_path", own=2), "own must be"),
        (dict(type="katz", beta=float("nan")), "beta"),
        (dict(type="pagerank", restart=1.5), "restart is a finite number from 0 and below 1"),
        (dict(type="katz", length=True), "length must be"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            Heuristic(spec, edges, 2)


def test_scores_that_are_no_numbers_are_named_and_teach_nobody() -> None:
    path = torch.tensor([[0, 1, 2], [1, 2, 3]])
    for beta in (1e30, 1e300):
        with pytest.raises(ValueError, match="heuristic 'katz' gives scores that are too large"):
            LinkStudent(hidden=(4,), epochs=1).fit(torch.randn(4, 3), path, teacher=dict(type="katz", beta=beta))


def test_edges_from_nodes_to_themselves_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="from a node to itself"):
        LinkStudent(hidden=(4,), epochs=1).fit(torch.randn(4, 3), torch.tensor([[1, 2], [1, 2]]))


def test_mean_reciprocal_rank_against_brute_force() -> None:
    one, other = torch.randn(50, generator=draw()), torch.randn(40, generator=draw(1))
    one[:5] = other[:5]  # ties
    ranks = [1 + sum(score >= mine for score in other.tolist()) for mine in one.tolist()]
    assert mrr(one, other) == pytest.approx(np.mean([1 / rank for rank in ranks]))


# --- a heuristic as a teacher -----------------------------------------------------------------------------------------


def test_a_heuristic_teaches_over_the_training_edges_alone(split: LinkSplit) -> None:
    taught = train_link_teacher(split, "adamic_adar")
    graph = networkx.Graph(split.train.T.tolist())
    graph.add_nodes_from(range(len(split.x)))
    scores = [
        torch.tensor([score for *_, score in networkx.adamic_adar_index(graph, pairs.T.tolist())])
        for pairs in (split.test["test"], split.test_none)
    ]
    assert taught.hits["test"] == pytest.approx(hits(*scores))
    assert taught.mrr["test"] == pytest.approx(mrr(*scores), rel=1e-3)  # ties in one precision are none in the other
    assert taught.score is not None
    torch.testing.assert_close(taught.score(split.test["test"]), scores[0].float())
    student = LinkStudent(hidden=(16,), method=dict(type="llp", walks=1), epochs=1, random_state=0)
    by_name = student.fit(split.x, split.train, teacher="adamic_adar").decision_function(split.x, split.val)
    given = student.fit(split.x, split.train, teacher=taught.score).decision_function(split.x, split.val)
    assert np.array_equal(by_name, given)
    with pytest.raises(KeyError, match="did you mean 'adamic_adar'"):
        distill_links(digits(), "adamicadar")


# --- the ensemble -----------------------------------------------------------------------------------------------------


def test_probabilities_are_averaged_with_the_weights_of_the_gate() -> None:
    each, raw = torch.randn(30, 3, generator=draw()).double() * 3, torch.randn(30, 3, generator=draw(1)).double()
    p = 1 / (1 + np.exp(-each.numpy()))
    for log_weight, weight in ((None, np.full((30, 3), 1 / 3)), (raw.log_softmax(1), raw.softmax(1).numpy())):
        mean = (weight * p).sum(1)
        np.testing.assert_allclose(LinkEnsemble.joined(each, log_weight), np.log(mean / (1 - mean)), rtol=1e-9)
    gate = LinkGate(6, (8, 4), 0.0, members=3)
    torch.testing.assert_close(gate(torch.randn(5, 6), torch.tensor([[0, 1], [2, 4]])).exp(), torch.full((2, 3), 1 / 3))
    assert LinkEnsemble.joined(torch.full((1, 2), 200.0)).isfinite().all()


class Expert(nn.Module):
    """Knows the edges of pairs whose first node is of its kind, and says the opposite of others at random."""

    def __init__(self, kind: int, edges: Tensor, nodes: int) -> None:
        super().__init__()
        self.kind, self.keys, self.nodes = kind, edges[0] * nodes + edges[1], nodes

    def forward(self, x: Tensor, pairs: Tensor) -> Tensor:
        low, high = pairs.aminmax(dim=0)
        truth = torch.isin(low * self.nodes + high, self.keys).float() * 2 - 1
        mine = (x[low, 0] + x[high, 0] > 0) == (self.kind == 1)
        return 3 * truth * torch.where(mine, 1.0, torch.where((low + high) % 2 == 0, 1.0, -1.0))


def test_the_gate_learns_which_member_knows_which_pairs() -> None:
    nodes = 200
    x = torch.cat([torch.randn(nodes, 1, generator=draw()).sign(), torch.randn(nodes, 3, generator=draw(1))], 1)
    every = torch.combinations(torch.arange(nodes)).T
    order = torch.randperm(every.shape[1], generator=draw(2))
    edges, held = every[:, order[:600]], every[:, order[600:1200]]
    model = LinkEnsemble(4, (16,))
    known = torch.cat([edges, held], 1)
    model.members = nn.ModuleList([Expert(kind, known, nodes) for kind in (0, 1)])
    none = every[:, order[1200:1800]]
    mean = auc(model(x, held), model(x, none))

    def loop(*args: Any, **options: Any) -> History:
        return train(*args, **dict(schedule=Schedule(0.01, 0.0, 60), **options))

    torch.manual_seed(0)
    _train_gate(model, LinkLesson(x, edges, loop, draw()))
    assert mean < 0.9
    with torch.no_grad():
        assert auc(model(x, held), model(x, none)) > mean + 0.05


def test_a_gate_that_is_no_better_on_validation_than_the_mean_is_dropped(split: LinkSplit) -> None:
    outcome = train_link_student(split, lambda pairs: pairs[0].float(), TWO, QUICK)
    network, student = outcome.model.network_, outcome.model
    kept, gate = outcome.val, network.gate
    network.gate = None
    mean = student.score(split.x, split.val, split.val_none)
    network.gate = gate
    assert kept == pytest.approx(student.score(split.x, split.val, split.val_none))
    assert kept > mean if gate is not None else kept == pytest.approx(mean)
    plain = train_link_student(split, lambda pairs: pairs[0].float(), {**TWO, "gate": False}, QUICK)
    assert plain.val == pytest.approx(mean)
    assert plain.model.network_.gate is None


def test_students_of_heuristics_beat_their_control_and_students_of_noise() -> None:
    graph = digits()
    split = tran(graph, 0)
    student = LinkStudent(hidden=(32, 32), dropout=0.0, epochs=20, lr=0.01, batch_size=2048)
    noise = torch.randn(len(graph), len(graph), generator=draw())
    found = {}
    for name, method in (
        ("control", "link_supervised"),
        ("heuristics", dict(TWO, heuristics=["adamic_adar", "shortest_path"])),
        ("noise", dict(TWO, heuristics=["teacher", "teacher"])),
    ):
        taught = train_link_student(split, lambda pairs: noise[pairs[0], pairs[1]], method, student)
        found[name] = taught.hits["test"]
    assert found["heuristics"] > max(found["control"], found["noise"]) + 0.15


def test_each_member_hears_its_own_heuristic_and_no_edge_that_is_held_out(split: LinkSplit) -> None:
    heard: list[Tensor] = []

    def listens(model: nn.Module, lesson: LinkLesson) -> History:
        heard.append(lesson.teacher_scores()(split.test["test"]))
        return lesson.train(model, lambda batch: model(lesson.x, lesson.edges).square().mean(), len(lesson))

    method = dict(type="ehdm", heuristics=["adamic_adar", "jaccard", "teacher"], method=listens)
    few = LinkStudent(hidden=(16,), epochs=1)
    train_link_student(split, lambda pairs: pairs[0].float(), method, few)
    assert len(heard) == 3
    for found, name in zip(heard, ("adamic_adar", "jaccard")):
        scores = Heuristic(name, split.train, len(split.x))(split.test["test"])
        assert np.corrcoef(found, scores)[0, 1] == pytest.approx(1, abs=1e-4)  # standardised, of the training edges
    assert np.corrcoef(heard[2], split.test["test"][0])[0, 1] == pytest.approx(1, abs=1e-4)
    raw = dict(method, scale="none")
    train_link_student(split, lambda pairs: pairs[0].float(), raw, few)
    torch.testing.assert_close(heard[4], Heuristic("jaccard", split.train, len(split.x))(split.test["test"]))


def test_what_is_held_out_reaches_nothing_that_learns(split: LinkSplit) -> None:
    other = replace(
        split, val=split.val_none, val_none=split.val, test={"test": split.test_none}, test_none=split.all_tested
    )
    few, found = LinkStudent(hidden=(16, 16), epochs=1, batch_size=2048), []
    for each in (split, other):
        student = train_link_student(each, lambda pairs: pairs[0].float(), {**TWO, "gate": False}, few).model
        found.append(student.decision_function(split.x, split.train))
    assert np.array_equal(*found)


def test_the_teacher_of_the_lesson_may_be_among_the_heuristics() -> None:
    method = dict(type="ehdm", heuristics=["teacher", "jaccard"], method=dict(type="llp", walks=1), gate=False)
    few = LinkStudent(hidden=(8,), epochs=1, batch_size=4096)
    result = distill_links(digits(), dict(type="sage", hidden=8, epochs=1), method, student=few)
    assert len(result.student.network_.members) == 2


@pytest.mark.parametrize("gate", [True, False])
def test_an_ensemble_survives_its_file(split: LinkSplit, gate: bool, tmp_path: Path) -> None:
    student = LinkStudent(hidden=(16, 8), epochs=1, batch_size=2048, method={**TWO, "gate": gate}, random_state=0)
    student.fit(split.x, split.train, teacher="adamic_adar")  # no validation edges: the gate stays
    assert (student.network_.gate is not None) == gate
    scores = student.decision_function(split.x, split.val)
    student.save(tmp_path / "links.safetensors")
    again = LinkStudent.load(tmp_path / "links.safetensors")
    assert np.array_equal(again.decision_function(split.x, split.val), scores)
    np.testing.assert_allclose(again.decision_function(split.x, split.val.flip(0)), scores, rtol=1e-4, atol=1e-6)
    assert again.method == student.method


def test_what_is_wrong_is_named_before_anything_is_trained(split: LinkSplit) -> None:
    def fails(**options: Any) -> None:
        with rehearsal():
            train_link_student(split, lambda pairs: pairs[0].float(), dict(TWO, **options), QUICK)
            raise AssertionError("nothing was raised")

    fails_with: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "heuristics is a list of at least one", dict(heuristics=[])),
        (TypeError, "heuristics must be a list", dict(heuristics="katz")),
        (KeyError, "no heuristic is called 'kats'", dict(heuristics=["adamic_adar", "kats"])),
        (ValueError, "by a recipe of one student", dict(method="ehdm")),
        (KeyError, "'lp'", dict(method="lp")),
        (ValueError, "scale must be 'zscore' or 'none'", dict(scale="rank")),
        (ValueError, "llp: lam", dict(method=dict(type="llp", lam=2.0))),
    ]
    for kind, message, options in fails_with:
        with pytest.raises(kind, match=message):
            fails(**options)
    pairs = torch.arange(100).view(2, 50)  # joined two by two: nobody has a neighbour in common with another
    lone = LinkLesson(torch.randn(100, 4), pairs, lambda *args: pytest.fail("trained"), draw())
    with pytest.raises(ValueError, match=r"'jaccard' scores all \d+ pairs that were drawn 0"):
        ehdm(LinkEnsemble(4, (8,)), replace(lone, edges=pairs[:, :1]), heuristics=["jaccard"])

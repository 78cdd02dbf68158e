"""The method that `distill` takes when none is named, and ffg2m where a graph has hubs."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from graphkd import Cache, StudentClassifier, distill
from graphkd.data import Graph, cpf_split, hubs, load, make_setting
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.recipes import ffg2m
from graphkd.sparse.edges import neighbour_targets
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

PAPER = dict(type="ffg2m", lam=0.5, high=1.0, even=False)
QUICK = StudentClassifier(hidden=(8,), dropout=0.5, epochs=3)
TEACHER = dict(type="sage", hidden=8, epochs=2)


class Answers(nn.Module):
    """A student that is a table of logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.logits[x[:, 0].long()]


def star(leaves: int) -> Tensor:
    """Node 0 and its neighbours."""
    spokes = torch.stack([torch.zeros(leaves, dtype=torch.long), torch.arange(1, leaves + 1)])
    return torch.cat([spokes, spokes.flip(0)], 1)


def chained_stars(stars: int, leaves: int) -> Tensor:
    """Hubs, the first nodes, in a chain; each with leaves."""
    hub = torch.arange(stars)
    spokes = torch.stack([hub.repeat_interleave(leaves), torch.arange(stars, stars * (leaves + 1))])
    chain = torch.stack([hub[:-1], hub[1:]])
    both = torch.cat([spokes, chain], 1)
    return torch.cat([both, both.flip(0)], 1)


def weights(edges: Tensor, nodes: int, **options: Any) -> Tensor:
    """How much each node counts: what the loss grows by where the student is wrong about that node alone."""
    teacher = torch.tensor([[4.0, 0.0, 0.0]]).expand(nodes, -1)
    found: list[float] = []

    def one_step(model: nn.Module, loss: Any, count: int) -> History:
        found.append(loss(slice(None)).item())
        return History()

    for wrong in (None, *range(nodes)):
        logits = teacher.clone()
        if wrong is not None:
            logits[wrong] = torch.tensor([0.0, 4.0, 0.0])
        x = torch.arange(nodes).float()[:, None]
        unknown = torch.full((nodes,), -1)
        lesson = Lesson(x, unknown, one_step, torch.Generator().manual_seed(0), teacher, edges)
        ffg2m(Answers(logits), lesson, **{"high": 0.0, **options})
    right, *others = found
    grown = torch.tensor(others) - right
    return grown / grown.sum()


@pytest.mark.parametrize(
    ("edges", "nodes"),
    [(star(9), 10), (star(39), 40), (chained_stars(3, 7), 24), (chained_stars(2, 1), 4), (star(5), 8)],
    ids=["star", "greater star", "chained stars", "path", "with lone nodes"],
)
def test_a_leaf_counts_as_much_as_a_hub(edges: Tensor, nodes: int) -> None:
    even = torch.full((nodes,), 1 / nodes)
    for options in ({}, dict(even=True), dict(even=0.0), dict(even=0.9)):
        torch.testing.assert_close(weights(edges, nodes, **options), even, atol=1e-5, rtol=1e-3)
    told = 1.0 + torch.bincount(edges[1], minlength=nodes)
    papers = weights(edges, nodes, lam=0.0, even=False)  # in the mean over edges a hub outweighs its leaves
    torch.testing.assert_close(papers, told / told.sum(), atol=1e-5, rtol=1e-3)


def test_even_is_the_share_of_a_nodes_own_target() -> None:
    edges = chained_stars(2, 2)[:, 1:]  # the second hub is told by all its neighbours, the first leaf tells only
    adjacency = torch.zeros(6, 6, dtype=torch.float64)
    adjacency[edges[1], edges[0]] = 1.0
    degree = adjacency.sum(1, keepdim=True)
    teacher = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p = teacher.softmax(1)
    for share in (0.0, 0.3, 1.0):
        own = torch.where(degree > 0, share, 1.0)
        wanted = own * p + (1 - own) * (adjacency @ p) / degree.clamp_min(1)
        student = Answers(torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
        x, unknown = torch.arange(6).double()[:, None], torch.full((6,), -1)

        def step(model: nn.Module, loss: Any, count: int) -> History:
            loss(slice(None)).backward()
            return History()

        lesson = Lesson(x, unknown, step, torch.Generator().manual_seed(0), teacher, edges)
        ffg2m(student, lesson, even=share)
        assert student.logits.grad is not None
        torch.testing.assert_close(
            student.logits.grad, (student.logits.detach().softmax(1) - wanted) / 6, rtol=1e-5, atol=1e-7
        )
    with pytest.raises(ValueError, match="even is False, True or the share"):
        ffg2m(student, lesson, even=1.5)


def test_a_weight_by_target_is_that_of_each_of_its_edges() -> None:
    draw = torch.Generator().manual_seed(0)
    edges = torch.randint(20, (2, 90), generator=draw)  # loops and repeated edges among them
    teacher, into = torch.randn(20, 3, generator=draw), torch.rand(20, generator=draw)
    one = neighbour_targets(teacher, edges, own=into, into=into)
    other = neighbour_targets(teacher, edges, into[edges[1]], into)
    for found, wanted in zip(one, other):
        torch.testing.assert_close(found, wanted)


@pytest.fixture(scope="module")
def cited() -> Graph:
    return hubs(nodes=900, classes=4, homophily=0.7, signal=0.25, words=300)


def test_with_hubs_ffg2m_is_no_worse_than_glnn_and_the_papers_settings_are(cited: Graph) -> None:
    student = StudentClassifier(hidden=(32,), dropout=0.5, epochs=60)
    right: dict[str, list[float]] = {"ffg2m": [], "glnn": [], "paper": []}
    for seed in range(2):
        view = make_setting(cited, cpf_split(cited.y, seed), "tran", seed)
        cache = train_teacher(view, dict(type="sage", hidden=32, epochs=60), seed).cache
        for name, method in (("ffg2m", "ffg2m"), ("glnn", "glnn"), ("paper", PAPER)):
            right[name].append(train_student(view, cache, method, student, seed).metrics["tran"])
    means = {name: float(np.mean(values)) for name, values in right.items()}
    assert means["ffg2m"] > means["glnn"] - 0.01
    assert means["ffg2m"] > means["paper"] + 0.02


def test_the_default_is_what_the_docs_say(cited: Graph) -> None:
    name = inspect.signature(distill).parameters["method"].default
    assert f"Default: `{name}`" in (distill.__doc__ or "")
    plain, glnn = (
        distill(cited, TEACHER, *method, student=QUICK, setting="tran").student.predict_proba(cited.x)
        for method in ((), ("glnn",))
    )
    assert np.array_equal(plain, glnn)  # never below glnn: it is glnn


def lone(graph: Graph) -> Graph:
    """The graph with node 0 cut off."""
    return replace(graph, edge_index=graph.edge_index[:, (graph.edge_index != 0).all(0)])


def dense(graph: Graph) -> Graph:
    return replace(graph, x=graph.x.to_dense())


CASES: dict[str, dict[str, Any]] = {
    "both settings": {},
    "inductive": dict(setting="ind"),
    "batches": dict(student=StudentClassifier(hidden=(8,), epochs=2, batch_size=100)),
    "a batch norm": dict(student=StudentClassifier(hidden=(8,), epochs=2, norm="batch", batch_size=100)),
    "a layer norm": dict(student=StudentClassifier(hidden=(8,), epochs=2, norm="layer")),
    "no hidden layer": dict(student=StudentClassifier(hidden=(), epochs=2)),
    "several teachers": dict(teacher=[TEACHER, dict(type="gcn", hidden=8, epochs=2)]),
    "a lone node": dict(change=lone, isolated="keep"),
    "dense features": dict(change=dense, setting="tran"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_default_runs_everywhere(case: str, cited: Graph) -> None:
    given = {"teacher": TEACHER, "student": QUICK, **CASES[case]}
    graph = given.pop("change", lambda graph: graph)(cited)
    result = distill(graph, **given)
    for accuracy in result.metrics["student"].values():
        assert 0 < accuracy < 1
    assert np.isfinite(result.student.predict_proba(graph.x)).all()


def test_the_default_takes_a_cache(cited: Graph, tmp_path: Any) -> None:
    first = distill(cited, TEACHER, student=QUICK, setting="tran")
    first.cache.save(tmp_path / "cache")
    again = distill(cited, Cache.load(tmp_path / "cache"), student=QUICK)
    assert again.metrics["student"] == first.metrics["student"]


def test_hubs_have_a_tail_classes_and_words_of_their_own() -> None:
    graph = hubs(nodes=3000, homophily=0.7, seed=3)
    again, other = hubs(nodes=3000, homophily=0.7, seed=3), hubs(nodes=3000, homophily=0.7, seed=4)
    assert graph.fingerprint() == again.fingerprint() != other.fingerprint()
    source, target = graph.edge_index
    degree = torch.bincount(target)
    assert degree.median() <= 5
    assert degree.max() > 200
    assert degree.max() > 2 * torch.bincount(hubs(nodes=3000, exponent=3.5, seed=3).edge_index[1]).max()
    assert (graph.y[source] == graph.y[target]).float().mean().item() == pytest.approx(0.7, abs=0.05)
    assert set(graph.x.to_dense().unique().tolist()) == {0.0, 1.0}
    assert len(torch.unique(graph.edge_index, dim=1).T) == graph.edge_index.shape[1]  # each once


def test_hubs_are_loaded_by_name_with_options() -> None:
    assert load(dict(type="hubs", nodes=500, seed=1)).fingerprint() == hubs(nodes=500, seed=1).fingerprint()
    with pytest.raises(ValueError, match="exponent above 1"):
        load(dict(type="hubs", exponent=1.0))
    with pytest.raises(KeyError, match="did you mean 'hubs'"):
        load(dict(type="hub"))

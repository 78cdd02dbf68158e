"""What a graph's container carries beside features, edges and labels: it is used, or refused by its name."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract, entry_of
from torch import Tensor, nn
from torch_geometric.data import Data, HeteroData
from torch_geometric.nn import GAT, GCN, GCNConv

from graphkd import Cache, Graph, StudentClassifier, distill, distill_links, make_setting, train_student, train_teacher
from graphkd.data import cpf_split, prepare, undirected
from graphkd.recipes import EDGE_READERS, RECIPES
from graphkd.sparse.edges import neighbour_average
from graphkd.teachers import TEACHERS
from graphkd.teachers.call import call

pytestmark = pytest.mark.filterwarnings("ignore:.*no teacher is better")

N = 90
Y = torch.arange(N) % 3
X = torch.eye(3, 6)[Y] + 0.5 * torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
RING = torch.stack([torch.arange(N), (torch.arange(N) + 3) % N])
BOTH = torch.cat([RING, RING.flip(0)], 1)
WEIGHT = torch.linspace(0.5, 2, N).repeat(2)
IDS = torch.randperm(N, generator=torch.Generator().manual_seed(1)).split([15, 15, 60])
STUDENT = StudentClassifier((8,), epochs=3)
WEIGHTED, REFUSING = ("gcn", "sage", "appnp", "sgc"), ("gat", "vqsage")


def graph(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"x": X, "edge_index": BOTH, "y": Y, **fields})


def run(data: Any, teacher: Any = "gcn", method: Any = "glnn", **options: Any) -> Any:
    teacher = dict(type=teacher, epochs=3) if isinstance(teacher, str) else teacher
    return distill(data, teacher, method, **{"student": STUDENT, "split": IDS, "setting": "tran", **options})


def dense(edges: Tensor, weight: Tensor) -> Tensor:
    a = torch.zeros(N, N)
    return a.index_put((edges[1], edges[0]), weight, accumulate=True)


def test_the_weighted_mean_is_that_of_the_dense_matrix() -> None:
    a = dense(BOTH, WEIGHT) + torch.eye(N)
    torch.testing.assert_close(neighbour_average(X, BOTH, WEIGHT), a @ X / a.sum(1, keepdim=True))
    torch.testing.assert_close(neighbour_average(X, BOTH, torch.ones(2 * N)), neighbour_average(X, BOTH))
    torch.testing.assert_close(neighbour_average(X, BOTH, WEIGHT), a @ X / a.sum(1, keepdim=True))  # not the last


@pytest.mark.parametrize("name", WEIGHTED)
def test_teachers_use_edge_weights(name: str) -> None:
    """An edge of weight 2 counts as two edges; a teacher's answers follow its weights, in both settings."""
    network = TEACHERS[name](6, 3).eval()
    twice = torch.cat([BOTH, BOTH[:, :30]], 1)
    weight = torch.ones(2 * N).index_fill(0, torch.arange(30), 2.0)
    torch.testing.assert_close(call(network, X, BOTH, weight), call(network, X, twice))
    for setting in ("tran", "ind"):
        plain, weighted = (run(graph(**more), name, setting=setting) for more in ({}, {"edge_weight": WEIGHT}))
        assert not np.allclose(plain.cache.logits, weighted.cache.logits, equal_nan=True)
        view = make_setting(Graph.of(graph(edge_weight=WEIGHT)), prepared_split(), setting, 0)  # type: ignore[arg-type]
        seen = undirected(Graph.of(graph(edge_weight=WEIGHT))).subgraph(view.observed)
        answers = call(weighted.outcomes["teacher"][setting].model, seen.x, seen.edge_index, seen.edge_weight)
        np.testing.assert_allclose(weighted.cache.logits[view.observed], answers.detach(), atol=1e-5)


def prepared_split() -> Any:
    from graphkd.data.split import as_split

    return as_split(IDS, N)


def test_weights_of_one_are_no_weights() -> None:
    plain = run(graph(), "gat", "ffg2m")
    ones = run(graph(edge_weight=torch.ones(2 * N, 1, dtype=torch.float64)), "gat", "ffg2m")
    assert plain.metrics == ones.metrics
    assert plain.cache.fingerprint == ones.cache.fingerprint


def test_a_module_of_pyg_uses_weights_if_its_layers_do() -> None:
    torch.manual_seed(0)
    network = GCN(6, 8, 2, 3).eval()
    result = run(graph(edge_weight=WEIGHT), network)
    np.testing.assert_allclose(result.cache.logits, network(X, BOTH, edge_weight=WEIGHT).detach(), atol=1e-5)
    with pytest.raises(
        ValueError, match="the graph has edge_weight, which the teacher 'GAT' does not use; remove it, or "
    ):
        run(graph(edge_weight=WEIGHT), GAT(6, 8, 2, 3))


@pytest.mark.parametrize("name", [*REFUSING, "hopwise of gat"])
def test_teachers_that_ignore_weights_are_refused_before_training(name: str) -> None:
    spec = dict(type="hopwise", conv="gat") if name.startswith("hopwise") else dict(type=name)
    with pytest.raises(ValueError, match=f"edge_weight, which the teacher '{spec['type']}' does not use; remove it"):
        run(graph(edge_weight=WEIGHT), ["gcn", {**spec, "epochs": 10**9}])
    with pytest.raises(ValueError, match="edge_weight, which the teacher 'Plain' does not use"):
        run(graph(edge_weight=WEIGHT), Plain)


class Plain(nn.Module):
    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.conv = GCNConv(in_features, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.conv(x, edge_index)


def test_methods_that_read_edges_are_refused_on_weighted_graphs() -> None:
    for name in sorted(EDGE_READERS):
        with pytest.raises(
            ValueError, match=f"edge_weight, which the method '{name}' does not use; remove it, or choose"
        ):
            run(graph(edge_weight=WEIGHT), dict(type="gcn", epochs=10**9), name)
    with pytest.raises(ValueError, match="which the method 'ffg2m' does not use"):
        run(graph(edge_weight=WEIGHT), "gcn", dict(type="pruned", method="ffg2m"))
    with pytest.raises(ValueError, match="which the method 'ffg2m_low' does not use"):
        run(graph(edge_weight=WEIGHT), "gcn", dict(type="terms", distills=[dict(loss="kl"), dict(loss="ffg2m_low")]))
    run(graph(edge_weight=WEIGHT), "gcn", dict(type="terms", distills=[dict(loss="kl")]))


SIGHTLESS = [name for name in sorted(set(RECIPES) - EDGE_READERS) if not entry_of(RecipeContract, name).more_outputs]


@pytest.mark.parametrize("name", SIGHTLESS)
def test_no_other_method_reads_edges(name: str) -> None:
    """Run on the same graph with and without edges: a method that is not listed ends with the same student."""
    view = make_setting(Graph.of(graph()), prepared_split(), "tran", 0)
    teacher = train_teacher(view, dict(type="gcn", epochs=3), 0, ("noisy", "weights")).cache
    students = []
    method = dict(type=name, **entry_of(RecipeContract, name).without_edges)
    for edges in (BOTH, None):
        fitted = StudentClassifier((8,), epochs=2, method=method, random_state=0)
        fitted.fit(X, Y, teacher=teacher, edge_index=edges, labelled=view.train)
        students.append(fitted.predict_proba(X))
    np.testing.assert_array_equal(*students)


def test_weights_follow_the_graph() -> None:
    weighted = Graph.of(graph(edge_weight=WEIGHT))
    plain, other = Graph.of(graph()), Graph.of(graph(edge_weight=WEIGHT.flip(0)))
    assert len({each.fingerprint() for each in (weighted, plain, other)}) == 3
    order = torch.randperm(2 * N)
    assert Graph.of(graph(edge_index=BOTH[:, order], edge_weight=WEIGHT[order])).fingerprint() == weighted.fingerprint()
    once = undirected(weighted)
    torch.testing.assert_close(dense(once.edge_index, once.edge_weight), dense(BOTH, WEIGHT))  # type: ignore[arg-type]
    assert undirected(once).fingerprint() == once.fingerprint()
    one_way = undirected(Graph.of(graph(edge_index=RING, edge_weight=WEIGHT[:N])))
    assert one_way.fingerprint() == once.fingerprint()
    nodes = torch.arange(0, N, 3).flip(0)
    part = weighted.subgraph(nodes)
    expected = dense(BOTH, WEIGHT)[nodes][:, nodes]
    found = torch.zeros(30, 30).index_put((part.edge_index[1], part.edge_index[0]), part.edge_weight)  # type: ignore
    torch.testing.assert_close(found, expected)
    assert prepare(graph(edge_weight=WEIGHT)).edge_weight is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(edge_weight=WEIGHT[:-1]), r"edge_weight is torch.float32 \(179,\); expected one number for each of 180"),
        (dict(edge_weight=-WEIGHT), "edge_weight is -0.5 at edge 0; weights are finite and not negative"),
        (dict(edge_weight=WEIGHT / 0), "edge_weight is inf at edge 0"),
        (
            dict(edge_attr=torch.rand(2 * N, 4)),
            "the graph has edge_attr, which is not supported; if it is one weight",
        ),
        (dict(edge_attr=WEIGHT), "pass it as edge_weight"),
        (dict(edge_type=torch.zeros(2 * N, dtype=torch.long)), "the graph has edge_type, which is not supported"),
        (dict(edge_time=torch.arange(2 * N)), "the graph has edge_time, which is not supported"),
        (dict(node_id=torch.arange(5)), r"node_id is torch.int64 \(5,\); expected an integer for each of 90 nodes"),
        (dict(node_id=np.arange(N) / 2), "node_id is torch.float64"),
        (dict(node_id=torch.arange(N) - 1), "node_id says where a node stood in a larger graph, from 0; got -1"),
        (dict(node_id=[0] * N), "node_id names a node twice"),
    ],
)
@pytest.mark.parametrize("kind", [SimpleNamespace, Data])
def test_a_field_that_cannot_be_used_is_refused_by_its_name(kind: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(kind(**vars(graph(**fields))))


def test_a_number_of_classes_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match=r"num_classes is a whole number, not 3\.5"):
        run(graph(num_classes=3.5))
    assert Graph.of(graph(num_classes=np.int64(4))).num_classes == 4


def test_several_kinds_of_nodes_are_named() -> None:
    data = HeteroData()
    data["paper"].x = X
    with pytest.raises(ValueError, match=r"several kinds of nodes take data\.to_homogeneous"):
        run(data)


@pytest.mark.parametrize("kind", [SimpleNamespace, Data])
def test_other_tensors_of_nodes_and_edges_are_named_in_a_warning(kind: Any) -> None:
    extra = dict(pos=torch.rand(N, 2), edge_label=np.arange(2 * N), title="a graph", rate=torch.tensor(3.0))
    with pytest.warns(
        UserWarning, match=r"the graph carries pos \(90, 2\), edge_label \(180,\), which nothing here uses"
    ):
        Graph.of(kind(**vars(graph(**extra))))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Graph.of(kind(**vars(graph(batch=torch.zeros(N, dtype=torch.long), num_nodes=N, edge_weight=WEIGHT))))


def test_node_ids_of_every_form_are_the_same(tmp_path: Path) -> None:
    ids = torch.randperm(1000)[:N]
    for form in (ids, ids.int(), ids.numpy(), ids.tolist()):
        assert torch.equal(Graph.of(graph(node_id=form)).node_id, ids)
    run(graph(node_id=ids)).cache.save(tmp_path / "c")
    cache = Cache.load(tmp_path / "c")
    run(graph(node_id=ids), cache)
    with pytest.raises(ValueError, match="the cache has other node ids than the graph, or has them in another order"):
        run(graph(node_id=ids.flip(0)), cache)


def test_directed_edges_count_in_both_directions_and_that_is_said() -> None:
    with pytest.warns(UserWarning, match="90 of 90 edges have no reverse: they count in both directions"):
        directed = run(graph(edge_index=RING))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", ".*no teacher")
        both = run(graph())
    assert directed.metrics == both.metrics
    assert directed.cache.fingerprint == both.cache.fingerprint


class Sum(nn.Module):
    """Not the same on a symmetrised graph: every entry of `edge_index` counts, in its own direction."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 3)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.linear(torch.zeros_like(x).index_add_(0, edge_index[1], x[edge_index[0]]))


@pytest.mark.filterwarnings("ignore:.*no reverse", "ignore:.*no record of its")
@pytest.mark.parametrize("several", [False, True])
def test_a_ready_module_is_run_on_the_edges_as_they_are(several: bool) -> None:
    """Direction, doubles and self-loops included; a teacher trained beside it gets both directions as ever."""
    edges = torch.cat([RING, RING[:, :40], torch.arange(10).expand(2, -1)], 1)
    network = Sum().eval()
    data = graph(edge_index=edges)
    teacher = [network, dict(type="gcn", epochs=3)] if several else network
    result = run(data, teacher, setting="all")
    np.testing.assert_allclose(result.cache.logits[:, :3], network(X, edges).detach(), atol=1e-5)
    assert result.cache.fingerprint == undirected(Graph.of(data)).fingerprint()
    view = make_setting(Graph.of(data), prepared_split(), "ind", 0)
    cache = result.outcomes["teacher"]["ind"].cache
    seen = network(view.seen.x, view.seen.edge_index).detach()
    np.testing.assert_allclose(cache.logits[view.observed, :3], seen, atol=1e-5)
    if several:
        alone = run(data, dict(type="gcn", epochs=3), seed=1000, setting="all")
        np.testing.assert_allclose(result.cache.logits[:, 3:], alone.cache.logits, atol=1e-5)
    else:
        right = network(X, edges).argmax(1)[view.unseen] == Y[view.unseen]
        assert result.metrics["teacher"]["ind"] == pytest.approx(right.double().mean().item())


def test_labels_may_be_names_and_the_student_answers_with_them(tmp_path: Path) -> None:
    names = np.array(["wolf", "ant", "bee"])
    for y in (names[Y].tolist(), names[Y], names[Y].astype(object), names[Y].astype("S4")[:, None]):
        data = graph(y=y)
        result = run(data)
        assert Graph.of(data).class_names == ("ant", "bee", "wolf")
        assert result.student.classes_.tolist() == ["ant", "bee", "wolf"]
        assert set(result.student.predict(X)) <= set(names)
        numbered = run(graph(y=np.unique(names[Y], return_inverse=True)[1]))
        assert result.metrics == numbered.metrics
        assert result.cache.fingerprint == numbered.cache.fingerprint
        assert numbered.student.classes_.tolist() == [0, 1, 2]
    result.student.save(tmp_path / "s")
    again = StudentClassifier.load(tmp_path / "s")
    assert again.predict(X).tolist() == result.student.predict(X).tolist()
    control = result.outcomes["control"]["tran"].model
    assert control.classes_.tolist() == ["ant", "bee", "wolf"]


def test_names_of_numbered_classes_are_kept_and_the_student_answers_with_numbers() -> None:
    data = graph(class_names=["wolf", "ant", "bee"])
    assert Graph.of(data).class_names == ("wolf", "ant", "bee")
    assert run(data).student.classes_.tolist() == [0, 1, 2]


def test_names_of_some_nodes_may_be_missing() -> None:
    y = np.array(["wolf", "ant", "bee"], dtype=object)[Y]
    y[IDS[2][:3].tolist()] = [None, float("nan"), ""]
    with pytest.raises(ValueError, match=r"3 labels are out of range.*unlabelled='keep'"):
        Graph.of(graph(y=y))
    kept = Graph.of(graph(y=y), unlabelled="keep")
    assert sorted((kept.y < 0).nonzero().flatten().tolist()) == sorted(IDS[2][:3].tolist())
    result = run(graph(y=y), split=(IDS[0], IDS[1], IDS[2][3:]))
    assert result.student.classes_.tolist() == ["ant", "bee", "wolf"]


def test_links_need_no_labels_and_refuse_weights() -> None:
    from graphkd import LinkStudent

    student = LinkStudent((8, 8), epochs=2, k=2)
    options = dict(teacher=dict(type="sage", hidden=8, epochs=2), student=student)
    plain = distill_links(graph(), **options)  # type: ignore[arg-type]
    for y in (None, ["a"] * N, torch.full((N,), -1)):
        assert distill_links(graph(y=y), **options).hits == plain.hits  # type: ignore[arg-type]
    for key in ("edge_weight", "edge_attr"):
        with pytest.raises(ValueError, match=f"the graph has {key}"):
            distill_links(graph(**{key: WEIGHT}), **options)  # type: ignore[arg-type]


def test_study_on_a_weighted_graph_shows_a_method_no_edges() -> None:
    view = make_setting(Graph.of(graph(edge_weight=WEIGHT)), cpf_split(Y, 0, 5, 5), "tran", 0)
    with pytest.raises(ValueError, match="which the method 'ffg2m' does not use"):
        train_student(view, train_teacher(view, dict(type="gcn", epochs=1)).cache, "ffg2m", STUDENT)

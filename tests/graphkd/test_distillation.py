"""`distill` from end to end on the digits graph: what it reports, what it must not look at, what it refuses."""

from __future__ import annotations

import subprocess
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from contract.entry import TeacherContract, entry_of, home_of
from torch import Tensor, nn

import graphkd
from graphkd import (
    Cache,
    Graph,
    Result,
    StudentClassifier,
    cpf_split,
    digits,
    distill,
    make_setting,
    train_student,
    train_teacher,
)
from graphkd.data.setting import UNSEEN_SHARE
from graphkd.sparse.rows import compact
from graphkd.teachers import TEACHERS
from graphkd.training.lesson import Lesson
from graphkd.training.loop import History

CONTRACT = [
    TeacherContract("hopwise", hidden=3),
    TeacherContract("sgc", accuracy=0.85, hidden=0, depth="hops"),
]

TEACHER = dict(type="sage", epochs=60)
STUDENT = StudentClassifier(hidden=(64,), dropout=0.3, epochs=80)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits()


@pytest.fixture(scope="module")
def result(graph: Graph) -> Result:
    return distill(graph, TEACHER, "ffg2m", student=STUDENT, seed=0)


def test_a_taught_student_is_better_than_its_control(result: Result) -> None:
    for key in ("tran", "prod", "ind"):
        assert result.metrics["student"][key] > result.metrics["control"][key]
    assert result.metrics["teacher"]["tran"] > 0.9


def test_reported_accuracies_are_those_of_the_definition(graph: Graph, result: Result) -> None:
    assert result.metrics["student"]["tran"] == pytest.approx(
        result.student.score(graph.x[cpf_split(graph.y, 0).test], graph.y[cpf_split(graph.y, 0).test])
    )
    setting = make_setting(graph, cpf_split(graph.y, 0), "ind", 0)
    for role in ("teacher", "control", "student"):
        found = result.metrics[role]
        assert found["prod"] == pytest.approx((1 - UNSEEN_SHARE) * found["observed"] + UNSEEN_SHARE * found["ind"])
    for role in ("control", "student"):
        assert result.metrics[role]["ind"] == result.metrics[role]["cold"]
    network = result.outcomes["teacher"]["ind"].model
    alone = network(graph.x[setting.unseen], torch.empty(2, 0, dtype=torch.long)).argmax(1)
    assert result.metrics["teacher"]["cold"] == pytest.approx((alone == graph.y[setting.unseen]).double().mean().item())
    assert result.metrics["teacher"]["cold"] < result.metrics["teacher"]["ind"]


def test_oracle_and_latency_are_reported(result: Result) -> None:
    for role in ("teacher", "control", "student"):
        for name, key in (("tran", "tran"), ("ind", "observed")):
            assert result.oracle_test_best[role][name] >= result.metrics[role][key] - 1e-6  # type: ignore[operator]
    assert result.latency.keys() == {"teacher", "student"}
    assert result.latency["teacher"].keys() == {"all_nodes", "one_node", "one_node_sampled", "batch"}
    assert result.latency["student"].keys() == {"all_nodes", "one_node", "batch"}
    assert all(milliseconds > 0 for found in result.latency.values() for milliseconds in found.values())


def test_the_cache_holds_what_the_teacher_saw(graph: Graph, result: Result) -> None:
    assert result.cache is result.outcomes["teacher"]["tran"].cache
    cache = result.outcomes["teacher"]["ind"].cache
    assert cache is not None
    setting = make_setting(graph, cpf_split(graph.y, 0), "ind", 0)
    assert np.isnan(cache.logits[setting.unseen.numpy()]).all()
    assert np.isfinite(cache.logits[setting.observed.numpy()]).all()
    assert [layer.shape for layer in cache.hidden] == [(1797, 128)]
    assert cache.fingerprint == graph.fingerprint()
    assert cache.settings["teacher"]["type"] == "sage"


def test_a_student_learns_from_the_cache_alone(graph: Graph, result: Result, tmp_path: Path) -> None:
    result.cache.save(tmp_path / "sage")
    again = distill(graph, Cache.load(tmp_path / "sage"), "ffg2m", student=STUDENT, seed=0)
    assert np.array_equal(again.student.predict_proba(graph.x), result.student.predict_proba(graph.x))
    assert again.metrics["teacher"]["tran"] == result.metrics["teacher"]["tran"]
    assert "teacher" not in again.latency


def test_test_labels_change_nothing_but_the_report(graph: Graph, result: Result) -> None:
    split = cpf_split(graph.y, 0)
    y = graph.y.clone()
    y[split.test] = y[split.test][torch.randperm(len(split.test))]
    noisy = distill(Graph(**{**vars(graph), "y": y}), TEACHER, "ffg2m", student=STUDENT, split=split, seed=0)
    for name in ("tran", "ind"):
        for role in ("control", "student"):
            one, other = (found.outcomes[role][name].model for found in (result, noisy))  # type: ignore[index]
            assert one.history_.best_epoch == other.history_.best_epoch
            assert np.array_equal(one.predict_proba(graph.x), other.predict_proba(graph.x))
    assert noisy.metrics["student"]["tran"] < 0.5


def test_unseen_nodes_change_nothing_before_the_evaluation(graph: Graph) -> None:
    split = cpf_split(graph.y, 0)
    unseen = make_setting(graph, split, "ind", 0).unseen
    x = graph.x.clone()
    x[unseen] = torch.rand(len(unseen), 64)
    kept = ~torch.isin(graph.edge_index, unseen).any(0)
    other = Graph(**{**vars(graph), "x": x, "edge_index": graph.edge_index[:, kept]})
    students = []
    for view in (make_setting(graph, split, "ind", 0), make_setting(other, split, "ind", 0)):
        students.append(train_student(view, train_teacher(view, TEACHER, 0).cache, "ffg2m", STUDENT, 0).model)
    assert np.array_equal(*(student.predict_proba(graph.x) for student in students))


def test_edges_one_way_and_their_order_do_not_matter(graph: Graph) -> None:
    source, target = graph.edge_index
    one_way = graph.edge_index[:, source < target].flip(1)
    found = [
        distill(Graph(**{**vars(graph), "edge_index": edges}), TEACHER, "glnn", student=STUDENT, setting="tran").metrics
        for edges in (graph.edge_index, one_way)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", sorted(TEACHERS))
def test_every_teacher_learns_and_tells_its_hidden_layers(graph: Graph, name: str) -> None:
    setting = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)
    taught = train_teacher(setting, dict(type=name, epochs=60), 0)
    entry = entry_of(TeacherContract, name)
    assert taught.metrics["tran"] > entry.accuracy
    assert taught.cache is not None
    assert len(taught.cache.hidden) == entry.hidden, home_of(TEACHERS[name])
    torch.testing.assert_close(
        taught.model(graph.x, graph.edge_index).detach(), torch.from_numpy(taught.cache.logits), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("name", sorted(TEACHERS))
def test_teachers_take_sparse_features(name: str) -> None:
    torch.manual_seed(0)
    x, edges = torch.rand(40, 30) * (torch.rand(40, 30) < 0.05), torch.randint(40, (2, 100))
    sparse = compact(x)
    assert sparse.layout is torch.sparse_csr
    for layers in (1, 2, 3):
        depth = {entry_of(TeacherContract, name).depth: layers}
        network = TEACHERS[name](30, 4, **depth).eval()
        torch.testing.assert_close(network(sparse, edges), network(x, edges))


def test_sage_is_the_layer_of_pyg_with_the_linear_map_taken_first() -> None:
    from torch_geometric.nn import SAGEConv
    from torch_geometric.utils import add_self_loops

    torch.manual_seed(0)
    x, edges = torch.rand(40, 6), torch.randint(40, (2, 400))  # some twice, some from a node to itself
    ours = TEACHERS["sage"](6, 3, layers=1)
    reference = SAGEConv(6, 3, aggr="mean", root_weight=False)
    reference.lin_l.load_state_dict(ours.layers[0].linear.state_dict())
    with torch.inference_mode():  # edges first seen here serve gradients, too
        first = ours(x, edges)
    found, expected = ours(x, edges), reference(x, add_self_loops(edges)[0])
    assert torch.equal(first, found)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.layers[0].linear.weight.grad, reference.lin_l.weight.grad)


def test_sorted_edges_are_kept_as_long_as_the_edges() -> None:
    from graphkd.sparse.edges import adjacency

    edges = torch.randint(40, (2, 100))
    assert adjacency(edges, 40) is adjacency(edges, 40)
    assert adjacency(edges, 41).shape == (41, 41)
    assert adjacency(edges, 40, torch.float64).dtype == torch.float64
    kept = weakref.ref(adjacency(edges, 40))
    assert kept() is not None
    del edges
    assert kept() is None


class Mean(nn.Module):
    """A teacher of the user's own: no layer of ours, no hidden layers told."""

    def __init__(self, in_features: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, classes)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        total = x.index_add(0, edge_index[1], x[edge_index[0]])
        degree = 1 + torch.bincount(edge_index[1], minlength=len(x))
        return self.linear(total / degree[:, None])


def test_a_teacher_of_ones_own_is_trained_as_a_function_and_taken_as_it_is_as_a_module(graph: Graph) -> None:
    trained = distill(graph, Mean, "glnn", student=STUDENT, setting="tran")
    assert trained.metrics["teacher"]["tran"] > 0.9
    network = trained.outcomes["teacher"]["tran"].model
    before = {key: value.clone() for key, value in network.state_dict().items()}
    taken = distill(graph, network, "glnn", student=STUDENT, setting="tran")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert taken.metrics == trained.metrics


def test_pyg_data_is_taken(graph: Graph) -> None:
    from torch_geometric.data import Data

    data = Data(x=graph.x, edge_index=graph.edge_index, y=graph.y)
    assert distill(data, TEACHER, "glnn", student=STUDENT, setting="tran").cache.fingerprint == graph.fingerprint()


class Broken(Mean):
    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return super().forward(x, edge_index).index_fill(0, torch.tensor([3]), torch.nan)


def test_what_does_not_fit_is_refused_before_training(graph: Graph, result: Result) -> None:
    none = Graph(**{**vars(graph), "edge_index": graph.edge_index[:, :0]})
    with pytest.raises(ValueError, match="the graph has no edges"):
        distill(none)
    cut = Graph(**{**vars(graph), "edge_index": graph.edge_index[:, (graph.edge_index != 7).all(0)]})
    with pytest.raises(ValueError, match="1 of 1797 nodes have no edge, the first is node 7"):
        distill(cut)
    with pytest.raises(ValueError, match="labels are out of range"):
        distill(SimpleNamespace(x=graph.x, edge_index=graph.edge_index, y=graph.y - 1))
    with pytest.raises(KeyError, match="no teacher is called 'sagee'; did you mean 'sage'"):
        distill(graph, "sagee")
    with pytest.raises(TypeError, match="teacher 'sage' has no option 'hiden'; did you mean 'hidden'"):
        distill(graph, dict(type="sage", hiden=3))
    with pytest.raises(KeyError, match="no method is called 'glmn'; did you mean 'glnn'"):
        distill(graph, "sage", "glmn")
    with pytest.raises(ValueError, match="the teacher's logits are NaN or infinite at node 3"):
        distill(graph, Broken())
    with pytest.raises(ValueError, match=r"the teacher gives \(1797, 9\); expected 1797 nodes by 10 classes"):
        distill(graph, Mean(classes=9))
    with pytest.raises(ValueError, match="no setting is called 'prod'"):
        distill(graph, setting="prod")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the cache belongs to another graph"):
        distill(digits(neighbours=6), result.cache, setting="tran")
    with pytest.raises(ValueError, match="it was written for another setting or seed"):
        distill(graph, result.cache, setting="ind")


def test_isolated_nodes_are_kept_when_asked_for(graph: Graph) -> None:
    cut = Graph(**{**vars(graph), "edge_index": graph.edge_index[:, (graph.edge_index != 7).all(0)]})
    kept = distill(cut, TEACHER, "ffg2m", student=STUDENT, setting="tran", isolated="keep")
    assert kept.metrics["student"]["tran"] > 0.9


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['torch_geometric'] = None\n"
        "import graphkd\n"
        "try: graphkd.distill\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs torch_geometric: pip install graphdensekd[graph]" in done.stdout


def test_losses_are_known_to_the_shared_registry() -> None:
    import kdlosses

    assert kdlosses.LOSSES["ffg2m_low"] is graphkd.losses.ffg2m_low


def test_a_teacher_is_asked_for_more() -> None:
    graph = digits()
    view = make_setting(graph, cpf_split(graph.y, 0), "ind", 0)
    outcome = train_teacher(view, dict(type="sage", epochs=20), 0, ("noisy", "weights"))
    cache, network = outcome.cache, outcome.model
    assert cache is not None
    unseen = ~cache.observed
    assert np.isnan(cache.more["noisy"][unseen]).all()
    assert np.isfinite(cache.more["noisy"][~unseen]).all()
    assert not np.allclose(cache.more["noisy"][~unseen], cache.logits[~unseen])
    np.testing.assert_array_equal(cache.params["layers.0.linear.weight"], network.layers[0].linear.weight.detach())
    plain = train_teacher(view, dict(type="sage", epochs=20), 0).cache
    assert plain is not None
    assert not plain.more
    assert not plain.params
    np.testing.assert_array_equal(plain.logits, cache.logits)
    lesson = Lesson(graph.x, graph.y, lambda *_: History(), torch.Generator())
    with pytest.raises(ValueError, match="needs 'noisy' of the teacher, whose extra outputs are none"):
        lesson.extra("noisy")


def test_a_result_prints_as_a_table(result: Result) -> None:
    head, *lines = repr(result).splitlines()
    assert head.split()[:2] == ["tran", "observed"]
    assert [line.split()[0] for line in lines] == ["teacher", "control", "student"]
    assert lines[0].split()[1] == f"{result.metrics['teacher']['tran']:.3f}"


def test_outcomes_by_setting_and_role_for_one_more_version(result: Result) -> None:
    with pytest.warns(DeprecationWarning, match=r"outcomes\['ind'\]\[role\] is now outcomes\[role\]\['ind'\]"):
        old = result.outcomes["ind"]["student"]  # type: ignore[index]
    assert old is result.outcomes["student"]["ind"]
    with pytest.raises(KeyError):
        _ = result.outcomes["pupil"]

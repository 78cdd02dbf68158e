"""Several labels, numbers, whole graphs and nodes of one kind among several."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics import average_precision_score, f1_score, r2_score
from torch import Tensor, nn

from graphkd import Graph, StudentClassifier, StudentRegressor, distill, make_setting
from graphkd.config import read
from graphkd.data import as_graph, describe, digits, load, restrict, split_of
from graphkd.pipeline.train_student import train_student
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.training.cache import Cache
from graphkd.training.task import TASKS

ROOT = Path(__file__).parents[2]
QUICK = dict(hidden=(32,), dropout=0.0, epochs=50)
TEACHER = dict(type="sage", hidden=32, epochs=40)


def ring(count: int = 240, noise: float = 1.5) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes of two groups in rings of their own, with features in which one node alone shows little."""
    draw = torch.Generator().manual_seed(0)
    group = torch.arange(count) % 2
    x = (2.0 * group[:, None] - 1) * torch.ones(1, 6) + noise * torch.randn(count, 6, generator=draw)
    near = torch.cat(
        [torch.stack([torch.arange(count), (torch.arange(count) + 2 * hop) % count]) for hop in (1, 2, 3)], 1
    )
    return x, torch.cat([near, near.flip(0)], 1), group


@pytest.fixture(scope="module")
def labels() -> Graph:
    x, edges, group = ring()
    y = torch.stack([group, 1 - group, torch.arange(240) % 3 == 0], 1).long()
    y[:, 2] = y[:, 2] | group
    return Graph.of(SimpleNamespace(x=x, edge_index=edges, y=y))


def test_several_labels(labels: Graph) -> None:
    assert (labels.task, labels.num_classes) == ("multi-label", 3)
    student = StudentClassifier(**QUICK)
    result = distill(
        labels, TEACHER, "glnn", student=student, setting="tran", scoring=["f1_micro", "average_precision"]
    )
    assert result.metrics["teacher"]["tran"] > result.metrics["control"]["tran"]
    assert result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    test = split_of(labels, 0).test
    truth, own = labels.y[test].numpy(), result.student
    predicted = own.predict(labels.x[test])
    assert result.metrics["student"]["tran"] == pytest.approx(f1_score(truth, predicted, average="micro"))
    area = average_precision_score(truth, own.predict_proba(labels.x[test]))
    assert result.metrics["student"]["tran average_precision"] == pytest.approx(area)
    assert result.cache.logits.shape == (240, 3)


def test_features_teach_several_labels(labels: Graph) -> None:
    method = dict(
        type="terms", distills=[dict(loss="mse", student="hidden", teacher="hidden"), dict(loss="binary_kl")], lam=0.2
    )
    result = distill(labels, TEACHER, method, student=StudentClassifier(**QUICK), setting="ind")
    assert result.metrics["student"]["prod"] > 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(method="krd"), r"the method 'krd' is for single-label targets, these are multi-label; choose glnn, "),
        (dict(method="mixup"), r"the method 'mixup' is for single-label"),
        (
            dict(method=dict(type="terms", distills=[dict(loss="kl")])),
            r"entry 'kl': the loss takes a softmax of the logits.*choose 'binary_kl'",
        ),
        (dict(scoring="f1_mikro"), r"no scoring is called 'f1_mikro'; did you mean 'f1_micro'"),
        (dict(scoring="f1"), r"scoring='f1' does not measure multi-label targets"),
        (dict(task="regresion"), r"task='regresion', but the graph's is 'multi-label'"),
        (dict(teacher={**TEACHER, "tune": "mcmi"}), r"a teacher with 'tune' is for classes"),
        (dict(student=StudentRegressor()), r"of classes or labels take a StudentClassifier"),
        (dict(target="paper"), r"target='paper' is for a HeteroData"),
    ],
)
def test_what_has_no_meaning_is_refused_before_training(labels: Graph, options: dict[str, Any], message: str) -> None:
    given = {"teacher": {**TEACHER, "epochs": 10**9}, **options}
    with pytest.raises((KeyError, TypeError, ValueError), match=message):
        distill(labels, setting="tran", **given)


def test_several_teachers_of_numbers_and_of_labels_speak_by_their_mean() -> None:
    outputs = torch.randn(5, 3, 4, dtype=torch.float64)
    several = TASKS["multi-label"].together(outputs).sigmoid()
    np.testing.assert_allclose(several, (1 / (1 + np.exp(-outputs.numpy()))).mean(1))

    x, edges, group = ring()
    y = 100.5 + 10 * group + torch.arange(240) % 7
    graph = Graph.of(SimpleNamespace(x=x, edge_index=edges, y=y))
    everyone = np.ones(240, dtype=bool)
    one, two = (
        Cache((y[:, None] + shift).numpy(), graph.node_id.numpy(), everyone, graph.fingerprint()) for shift in (1, 4)
    )
    tough = dict(type="assistive", share=[0.1, 0.1])
    method = dict(type="terms", lam=0.5, distills=[dict(loss=tough, source=["truth", "teacher"])])
    student = StudentRegressor(**{**QUICK, "epochs": 2})
    test = split_of(graph, 0).test
    for each in (method, "glnn"):
        result = distill(graph, [one, two], each, student=student, setting="tran")
        assert result.metrics["teacher"]["tran"] == pytest.approx(r2_score(y[test], y[test] + 2.5))


def test_points_have_a_tough_and_a_tolerant_teacher_by_a_config() -> None:
    """The tolerant one learns what a shape model draws, and answers so; both are scored on the true points."""
    config = read(ROOT / "configs" / "graph" / "assistive" / "digits.py")
    graph = load(config["data"])
    setting = make_setting(graph, split_of(graph, 0), "tran", 0)
    y = graph.y[setting.train].double().numpy()
    shapes = PCA(0.8).fit(y)
    soft = restrict(setting, soft=0.8)
    drawn = shapes.inverse_transform(shapes.transform(y))
    near = np.abs(shapes.transform(y)) < 3 * np.sqrt(shapes.explained_variance_)  # the others are cut
    np.testing.assert_allclose(soft.seen.y[setting.train][near.all(1)], drawn[near.all(1)], atol=1e-5)
    assert torch.equal(soft.whole.y, graph.y)

    teachers = [{**each, "epochs": 40} for each in config["teacher"]]
    taught = train_teacher(setting, teachers)
    off = []
    for each in taught.cache.split():
        says = each.logits[setting.test]
        off.append(np.square(says - shapes.inverse_transform(shapes.transform(says))).mean())
    assert off[1] < 0.5 * off[0]
    student = StudentRegressor(hidden=(16,), dropout=0.0, epochs=60)
    found = train_student(setting, taught, config["methods"][-1], student)
    assert found.metrics["tran"] > 0.5
    with pytest.raises(ValueError, match="a teacher with 'soft' is for numbers, the targets are single-label"):
        distill(digits(), dict(type="sage", soft=0.8), setting="tran")


def test_one_hot_labels_are_still_refused() -> None:
    x, edges, group = ring()
    data = SimpleNamespace(x=x, edge_index=edges, y=nn.functional.one_hot(group))
    with pytest.raises(ValueError, match=r"of one-hot labels take y\.argmax\(1\), or pass task='multi-label'"):
        Graph.of(data)
    assert Graph.of(data, task="multi-label").task == "multi-label"


def test_a_student_of_several_labels_is_saved(labels: Graph, tmp_path: Any) -> None:
    told = np.arange(240) < 120
    y = labels.y.numpy().copy()
    y[~told] = -1
    student = StudentClassifier(**QUICK, random_state=0).fit(labels.x, y, labelled=told)
    assert student.predict(labels.x).shape == (240, 3)
    student.save(tmp_path / "student.safetensors")
    again = StudentClassifier.load(tmp_path / "student.safetensors")
    np.testing.assert_array_equal(again.predict_proba(labels.x), student.predict_proba(labels.x))
    with pytest.raises(ValueError, match="row 120 of y is"):
        StudentClassifier(**QUICK).fit(labels.x, y)
    with pytest.raises(ValueError, match=r"holds a StudentClassifier: use StudentClassifier\.load"):
        StudentRegressor.load(tmp_path / "student.safetensors")


def test_numbers(tmp_path: Any) -> None:
    x, edges, group = ring()
    y = group + 0.1 * torch.randn(240, generator=torch.Generator().manual_seed(1))
    result = distill(
        SimpleNamespace(x=x, edge_index=edges, y=y), TEACHER, "glnn", student=StudentRegressor(**QUICK), setting="tran"
    )
    assert result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    graph = Graph.of(SimpleNamespace(x=x, edge_index=edges, y=y))
    test = split_of(graph, 0).test
    assert result.metrics["student"]["tran"] == pytest.approx(
        r2_score(y[test], result.student.predict(x[test])), abs=1e-5
    )
    result.student.save(tmp_path / "numbers.safetensors")
    again = StudentRegressor.load(tmp_path / "numbers.safetensors")
    np.testing.assert_array_equal(again.predict(x), result.student.predict(x))


def metres(scale: float = 1e3, mean: float = 1e4) -> SimpleNamespace:
    """Lengths of mean 10 km and deviation 1 km, and the same in the opposite direction in millimetres."""
    x, edges, group = ring()
    z = 2.0 * group - 1 + 0.2 * torch.randn(240, generator=torch.Generator().manual_seed(1))
    return SimpleNamespace(x=x, edge_index=edges, y=torch.stack([mean + scale * z, -1e3 * (mean + scale * z)], 1))


def test_numbers_of_any_units_are_learned_and_answered_in_these(tmp_path: Any) -> None:
    data, student = metres(), StudentRegressor(**QUICK)
    result = distill(data, TEACHER, "glnn", student=student, setting="tran")
    test = split_of(Graph.of(data), 0).test
    predicted = result.student.predict(data.x[test])
    assert result.metrics["teacher"]["tran"] > 0.8
    assert result.metrics["student"]["tran"] > max(0.6, result.metrics["control"]["tran"])
    assert result.metrics["student"]["tran"] == pytest.approx(r2_score(data.y[test], predicted), abs=1e-5)
    assert np.abs(predicted[:, 1] + 1e3 * predicted[:, 0]).mean() < 1e6  # a deviation of either

    network, cache = result.outcomes["teacher"]["tran"].model, result.cache
    with torch.no_grad():  # as a user calls it
        np.testing.assert_allclose(network(data.x, data.edge_index), cache.logits, rtol=1e-4)
    again = pickle.loads(pickle.dumps(network))  # a hook would be lost in a state dict alone
    torch.testing.assert_close(again(data.x, data.edge_index), network(data.x, data.edge_index))
    assert {"graphkd_mean", "graphkd_scale"} <= network.state_dict().keys()

    result.student.save(tmp_path / "metres.safetensors")
    np.testing.assert_array_equal(
        StudentRegressor.load(tmp_path / "metres.safetensors").predict(data.x[test]), predicted
    )
    alone = distill(data, np.asarray(cache.logits), "glnn", student=student, setting="tran")  # numbers of one's own
    np.testing.assert_allclose(alone.student.predict(data.x[test]), predicted, rtol=1e-5)


def test_units_change_nothing_but_the_answers() -> None:
    """A feature loss and labels beside the teacher's numbers: their balance is the same in all units."""
    method = dict(
        type="terms", distills=[dict(loss="mse", student="hidden", teacher="hidden"), dict(loss="mse")], lam=0.3
    )
    first, second = (
        distill(metres(*units), TEACHER, method, student=StudentRegressor(**QUICK), setting="ind")
        for units in ((1.0, 0.0), (1e3, 1e4))
    )
    for role in ("teacher", "control", "student"):
        assert second.metrics[role] == pytest.approx(first.metrics[role], abs=5e-3)


def test_a_network_that_returns_more_answers_in_units() -> None:
    class Pair(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(inputs, 8), nn.Linear(8, outputs)

        def forward(self, x: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
            hidden = self.body(x).relu()
            return hidden, self.head(hidden)

    data = metres()
    result = distill(data, dict(type=Pair, epochs=60), "glnn", student=StudentRegressor(**QUICK), setting="tran")
    hidden, found = result.outcomes["teacher"]["tran"].model(data.x, data.edge_index)
    assert result.metrics["teacher"]["tran"] > 0.5
    assert (hidden < 100).all()
    np.testing.assert_allclose(found.detach(), result.cache.logits, rtol=1e-4)


def test_a_target_that_never_changes_is_learned_too() -> None:
    x, _, group = ring()
    y = np.stack([np.full(240, 273.15), 1e4 + 1e3 * group.numpy()], 1)
    found = StudentRegressor(**QUICK, random_state=0).fit(x, y).predict(x)
    assert np.abs(found[:, 0] - 273.15).max() < 5
    assert r2_score(y[:, 1], found[:, 1]) > 0.6


@pytest.mark.parametrize("far", [1e9, 1e12])
def test_numbers_that_float32_cannot_tell_apart_are_told(far: float) -> None:
    data = metres(1.0, 0.0)
    y = far + 10 * data.y[:, :1].double()
    student = StudentRegressor(**{**QUICK, "epochs": 1})
    with pytest.warns(UserWarning, match="subtract a constant"):
        student.fit(data.x, y)
    with pytest.warns(UserWarning, match="subtract a constant"):
        Graph.of(SimpleNamespace(x=data.x, edge_index=data.edge_index, y=y))
    with pytest.raises(ValueError, match=r"float32 ends at 3\.4e\+38"):
        student.fit(data.x, 1e39 * data.y.double())


def test_numbers_of_graphs_and_of_one_kind_of_nodes_have_units() -> None:
    graphs = triangles()
    for place, graph in enumerate(graphs):
        graph.y = 1e4 + 1e3 * float(place % 2) + 0.5
    result = distill(graphs, dict(type="gin", hidden=16, epochs=40), student=StudentRegressor(**QUICK), setting="tran")
    assert result.metrics["teacher"]["tran"] > 0.5
    assert 8e3 < float(result.student.predict(as_graph(graphs).x).mean()) < 1.2e4
    from torch_geometric.nn import GraphSAGE

    papers = hetero()
    papers["paper"].y = 1e4 + 1e3 * papers["paper"].y + 0.5
    for builder in ("sage", lambda inputs, classes: GraphSAGE(inputs, 16, 2, classes)):  # the second answers in a dict
        teacher, student = dict(type=builder, epochs=40), StudentRegressor(**QUICK)
        result = distill(papers, teacher, "glnn", target="paper", student=student, setting="tran")
        assert result.metrics["teacher"]["tran"] > 0.5


def test_f1_chooses_and_is_reported() -> None:
    x, edges, group = ring()
    y = (torch.arange(240) % 6 == 0).long() * group.clamp_min(1)
    graph = Graph.of(SimpleNamespace(x=x, edge_index=edges, y=y))
    rare = replace(graph, split=split_of(replace(graph, task="multi-label", y=y[:, None]), 0))
    result = distill(rare, TEACHER, "glnn", student=StudentClassifier(**QUICK), setting="tran", scoring="f1_macro")
    test = rare.split.test  # type: ignore[union-attr]
    assert result.metrics["student"]["tran"] == pytest.approx(
        f1_score(y[test], result.student.predict(x[test]), average="macro")
    )


def triangles(count: int = 120) -> list[Any]:
    """Rings of 6 nodes, and pairs of triangles: the same degrees and features, told apart by their cycles alone."""
    ring6 = torch.stack([torch.arange(6), (torch.arange(6) + 1) % 6])
    pair = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 2, 0, 4, 5, 3]])
    draw = torch.Generator().manual_seed(0)
    graphs = []
    for place in range(count):
        edges = (ring6, pair)[place % 2]
        x = torch.randn(6, 3, generator=draw) + (place % 2) * torch.tensor([1.0, 0.0, 0.0])
        graphs.append(
            SimpleNamespace(x=x, edge_index=torch.cat([edges, edges.flip(0)], 1), y=torch.tensor([place % 2]))
        )
    return graphs


def test_whole_graphs() -> None:
    graphs = triangles()
    student = StudentClassifier(**QUICK)
    result = distill(graphs, dict(type="gin", hidden=16, layers=3, epochs=40), "glnn", student=student)
    for setting in ("tran", "ind"):
        assert result.metrics["teacher"][setting] > 0.6
        assert result.metrics["student"][setting] > 0.6
    assert "cold" not in result.metrics["student"]
    assert [layer.shape for layer in result.cache.hidden] == [(120, 16)] * 3
    own = distill(graphs, "gin", student=student, setting="tran", descriptors=lambda data: data.x.mean(0))
    assert own.student.n_features_in_ == 3
    with pytest.raises(ValueError, match=r"the method 'krd' reads edges between what is predicted"):
        distill(graphs, "gin", "krd")


def test_descriptors_are_those_of_each_graph_alone() -> None:
    graphs = triangles(5)
    graphs[1] = SimpleNamespace(x=torch.randn(2, 3), edge_index=torch.zeros(2, 0).long(), y=torch.tensor([1]))
    found = as_graph(graphs).x
    for place, each in enumerate(graphs):
        x, degree = each.x.numpy(), np.bincount(each.edge_index[1].numpy(), minlength=len(each.x))
        grows = np.concatenate([x.sum(0), [len(x), degree.sum(), degree.mean(), degree.std(), degree.max()]])
        expected = np.concatenate([x.mean(0), x.max(0), np.sign(grows) * np.log1p(abs(grows))])
        np.testing.assert_allclose(found[place], expected, rtol=1e-4, atol=1e-5)


def test_a_set_of_graphs_can_be_taken_apart() -> None:
    whole = as_graph(triangles(7))
    order = torch.tensor([5, 0, 3])
    part = whole.subgraph(order)
    again = as_graph([triangles(7)[place] for place in order.tolist()])
    one, two = (
        part.reads.arguments(torch.device("cpu"), torch.float32),
        again.reads.arguments(torch.device("cpu"), torch.float32),
    )  # type: ignore[union-attr]
    torch.testing.assert_close(one[0][0], two[0][0])
    assert sorted(one[0][1].T.tolist()) == sorted(two[0][1].T.tolist())
    torch.testing.assert_close(one[1]["batch"], two[1]["batch"])
    torch.testing.assert_close(describe(part.reads), part.x)  # type: ignore[arg-type]


def hetero() -> Any:
    """Papers of two topics that say little of them, with words that do."""
    from torch_geometric.data import HeteroData
    from torch_geometric.transforms import ToUndirected

    draw = torch.Generator().manual_seed(0)
    y = torch.arange(200) % 2
    data = HeteroData()
    data["paper"].x = (2.0 * y[:, None] - 1) + 3 * torch.randn(200, 4, generator=draw)
    data["paper"].y = y
    data["word"].x = torch.eye(20)
    words = 10 * y[:, None] + torch.randint(10, (200, 5), generator=draw)
    data["paper", "has", "word"].edge_index = torch.stack([torch.arange(200).repeat_interleave(5), words.flatten()])
    return ToUndirected()(data)


@pytest.mark.parametrize("teacher", ["ours", "through to_hetero", "of dicts"])
def test_nodes_of_one_kind(teacher: str) -> None:
    from torch_geometric.nn import GraphSAGE

    class OfDicts(nn.Module):
        def __init__(self, inputs: Any, classes: int) -> None:
            super().__init__()
            self.linear = nn.Linear(20, classes)

        def forward(self, x_dict: Any, edge_index_dict: Any) -> Any:
            source, target = edge_index_dict["word", "rev_has", "paper"]
            summed = torch.zeros(len(x_dict["paper"]), 20).index_add(0, target, x_dict["word"][source])
            return {"paper": self.linear(summed)}

    builders = {
        "ours": "sage",
        "through to_hetero": lambda inputs, classes: GraphSAGE(inputs, 16, 2, classes),
        "of dicts": OfDicts,
    }
    result = distill(
        hetero(), dict(type=builders[teacher], epochs=40), "glnn", target="paper", student=StudentClassifier(**QUICK)
    )
    assert result.metrics["teacher"]["tran"] > 0.9
    assert result.metrics["teacher"]["ind"] > 0.9
    assert result.metrics["student"]["tran"] > 0.5
    if teacher == "ours":
        assert len(result.cache.hidden) == 1


def test_mistakes_in_graphs_of_several_kinds() -> None:
    for options, message in (
        ({}, r"or say which is predicted: target= one of \['paper', 'word'\]"),
        (dict(target="papre"), r"has no nodes 'papre'; did you mean 'paper'"),
        (dict(target="paper", teacher="gcn"), r"the teacher 'gcn' is for one kind of nodes; choose 'sage'"),
        (dict(target="paper", method="nosmog"), r"the method 'nosmog' reads edges between what is predicted"),
    ):
        with pytest.raises((KeyError, ValueError), match=message):
            distill(hetero(), **options)
    data = hetero()
    del data["word"].x
    with pytest.raises(ValueError, match=r"the nodes 'word' have no features"):
        distill(data, target="paper")


def test_what_is_unseen_is_hidden_from_the_teacher() -> None:
    graph = as_graph(hetero(), target="paper")
    view = make_setting(graph, split_of(graph, 0), "ind", 0)
    reads: Any = view.seen.reads
    assert len(reads.x["paper"]) == len(view.observed) < 200
    torch.testing.assert_close(reads.x["paper"], view.seen.x)
    words = reads.edges["paper", "has", "word"]
    assert words.shape[1] == 5 * len(view.observed)
    full: Any = graph.reads
    kept = torch.isin(full.edges["paper", "has", "word"][0], view.observed)
    torch.testing.assert_close(view.observed[words[0]], full.edges["paper", "has", "word"][0][kept])

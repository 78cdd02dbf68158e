"""A trained graph network forgets edges, nodes and classes."""

from __future__ import annotations

import copy
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch_geometric.nn import GCN, GATConv, GCNConv

from graphkd import Graph, Split, unlearn
from graphkd.cli import unlearn as command
from graphkd.links import LinkSplit, split_links
from graphkd.links.network import LinkGNN
from graphkd.teachers.gcn import gcn
from graphkd.unlearning import UNLEARNERS, Deletion, fit, shadow_attack
from graphkd.unlearning.layers import redrawn
from graphkd.unlearning.unlearning import carried_out, checked_method, prepared

TRAINED = dict(epochs=40, lr=0.03)
SHORT = {name: dict(type=name, epochs=3) for name in ("d2dgn", "gnndelete", "gradient_ascent")}
SHORT |= {name: dict(type=name) for name in ("utu", "retrain")}


def blocks(nodes: int = 160, count: int = 4) -> Graph:
    """Four groups with more edges inside than between them."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(nodes) % count
    chance = torch.where(y[:, None] == y, 0.18, 0.01)
    low, high = (torch.rand(nodes, nodes, generator=draw) < chance).triu(1).nonzero().T
    told = torch.eye(count)[y] + 0.8 * torch.randn(nodes, count, generator=draw)
    x = torch.cat([told, torch.randn(nodes, 12, generator=draw)], 1)
    edges = torch.stack([torch.cat([low, high]), torch.cat([high, low])])
    order = torch.randperm(nodes, generator=draw)
    return Graph(x, edges, y, count, torch.arange(nodes), Split(order[:60], order[60:90], order[90:]))


GRAPH = blocks()
LINKS: LinkSplit = split_links(GRAPH, "tran", 0)
GONE = LINKS.train[:, :30]


def network(width: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return gcn(16, width, hidden=32, dropout=0.0)


@pytest.fixture(scope="module")
def linker() -> nn.Module:
    model = network(16)
    fit(model, GRAPH, task="links", split=LINKS, trained=TRAINED)
    return model


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    model = network(4)
    fit(model, GRAPH, task="nodes", trained=TRAINED)
    return model


def asked(model: nn.Module, seed: int = 0, **wanted: Any) -> Deletion:
    links = "edges" in wanted
    given = dict(edges=None, nodes=None, classes=None) | wanted
    split = LINKS if links else None
    return prepared(model, GRAPH, task=None, split=split, trained=TRAINED, seed=seed, **given)[0]


def scores(deletion: Deletion, model: nn.Module, pairs: Tensor) -> Tensor:
    """By hand: over the edges that are left."""
    with torch.no_grad():
        h = model.eval()(deletion.after.x, deletion.after.edge_index)
    return (h[pairs[0]] * h[pairs[1]]).sum(1)


def same(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_deleted_edges_fall_towards_the_destroyer_and_retained_ones_stay(linker: nn.Module) -> None:
    deletion = asked(linker, edges=GONE)
    spec = dict(type="d2dgn", epochs=50)
    taught, linked, idle = (
        carried_out(deletion, checked_method(each))[0] for each in (spec, "utu", {**spec, "alpha": 1.0})
    )
    goal = scores(deletion, redrawn(linker, deletion.seed), GONE).sigmoid()
    was, now, without = (
        (scores(deletion, each, GONE).sigmoid() - goal).abs().mean() for each in (linked, taught, idle)
    )
    assert now < 0.6 * was
    assert without > 0.9 * was  # it is the destroyer that makes it forget
    kept = deletion.after.elements
    was_kept, now_kept = (scores(deletion, each, kept).sigmoid() for each in (linked, taught))
    assert (now_kept - was_kept).abs().mean() < 0.1
    assert (
        deletion.after.test(taught, deletion.told(taught)) > deletion.after.test(linked, deletion.told(linked)) - 0.03
    )


def test_all_for_the_preserver_moves_nothing_and_all_for_the_destroyer_moves_towards_it(linker: nn.Module) -> None:
    deletion = asked(linker, edges=GONE)
    still, _ = carried_out(deletion, checked_method(dict(type="d2dgn", alpha=1.0, epochs=1, lr=0.0)))
    assert same(still, linker)
    taught, _ = carried_out(deletion, checked_method(dict(type="d2dgn", alpha=0.0, epochs=30)))
    empty = redrawn(linker, deletion.seed)
    before, goal, after = (scores(deletion, each, GONE).sigmoid() for each in (linker, empty, taught))
    assert (after - goal).abs().mean() < 0.5 * (before - goal).abs().mean()


def test_its_first_step_is_that_of_the_formula(linker: nn.Module) -> None:
    """KL of Bernoullis in NumPy, against the gradient of a step of plain gradient descent, here by its loss."""
    deletion = asked(linker, edges=GONE)
    seen: list[float] = []

    class Watched(Deletion):
        def train(self, model: nn.Module, loss: Any, count: int, *rest: Any, **more: Any) -> Any:
            seen.append(float(loss(slice(None)).detach()))

    watched = Watched(**{name: getattr(deletion, name) for name in ("model", "before", "after", "deleted", "schedule")})
    UNLEARNERS["d2dgn"](watched, alpha=0.3)
    p, q = (scores(deletion, each, GONE).double().sigmoid().numpy() for each in (redrawn(linker, 0), linker))
    gone = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert seen == [pytest.approx(0.7 * gone, rel=1e-4)]  # the preserver agrees with its copy


@pytest.mark.parametrize("model", ["linker", "classifier"])
def test_features_move_towards_those_of_both_teachers(model: str, request: pytest.FixtureRequest) -> None:
    trained = request.getfixturevalue(model)
    deletion = asked(trained, **(dict(edges=GONE[:, :3]) if model == "linker" else dict(nodes=[3, 5, 9])))
    spec = dict(type="d2dgn", form="features", epochs=30)
    gone = deletion.after.ends(deletion.deleted)
    empty = deletion.told_layers(redrawn(trained, 0))
    distances = []
    for each in (trained, carried_out(deletion, checked_method(spec))[0]):
        distances.append(
            [float((a[gone] - b[gone]).square().mean()) for a, b in zip(deletion.told_layers(each), empty)]
        )
    assert all(after < before for before, after in zip(*distances))


def test_forgotten_nodes_are_told_what_the_destroyer_says(classifier: nn.Module) -> None:
    nodes = GRAPH.split.train[:10]
    found = unlearn(classifier, GRAPH, nodes=nodes, method=dict(type="d2dgn", epochs=40), trained=TRAINED)
    deletion = asked(classifier, nodes=nodes)

    def sure(model: nn.Module, which: Tensor) -> float:
        with torch.no_grad():
            told = model.eval()(GRAPH.x, deletion.after.edge_index).softmax(1)
        return float(told[which, GRAPH.y[which]].mean())

    assert sure(found.model, nodes) < sure(classifier, nodes) - 0.15
    others = deletion.after.elements
    assert abs(sure(found.model, others) - sure(classifier, others)) < 0.1
    assert found.report["removed"]["nodes"] == nodes.sort().values.tolist()


def test_a_forgotten_class_is_gone_from_graph_and_answers(classifier: nn.Module) -> None:
    found = unlearn(classifier, GRAPH, classes=[2], method=dict(type="d2dgn", epochs=40), trained=TRAINED)
    of_class = GRAPH.y == 2
    assert not found.graph.x[of_class].any()
    assert (found.graph.y[of_class] == -1).all()
    assert not of_class[found.graph.edge_index].any()
    assert not of_class[torch.cat([found.split.train, found.split.val, found.split.test])].any()
    with torch.no_grad():
        alone = GRAPH.edge_index[:, :0]
        was, now = (each(GRAPH.x, alone).softmax(1)[of_class, 2].mean() for each in (classifier, found.model))
    assert now < was - 0.15


def test_an_attack_finds_less_of_what_was_forgotten(linker: nn.Module) -> None:
    found = unlearn(
        linker, GRAPH, edges=GONE, method=dict(type="d2dgn", epochs=40), split=LINKS, trained=TRAINED, audit=True
    )
    linked = unlearn(linker, GRAPH, edges=GONE, method="utu", split=LINKS, trained=TRAINED, audit=True)
    assert found.report["attack AUC"] == linked.report["attack AUC"] > 0.55  # it can tell something
    assert found.report["after"]["MI ratio"] > linked.report["after"]["MI ratio"] + 0.05
    assert found.report["after"]["MI ratio"] > 1


def test_the_attack_is_fitted_on_no_deleted_element(linker: nn.Module, classifier: nn.Module) -> None:
    deletion = asked(linker, edges=GONE)
    task, others = deletion.before.shadow(deletion.deleted, torch.Generator().manual_seed(0))
    together = torch.cat([task.elements, others, task.chosen_by[0]], 1)
    assert len(together.T.unique(dim=0)) == together.shape[1]
    place = {tuple(row): i for i, row in enumerate(GRAPH.x.tolist())}
    back = torch.tensor([place[tuple(row)] for row in task.x.tolist()])
    pairs = {frozenset(pair) for pair in back[together].T.tolist()}
    assert not pairs & {frozenset(pair) for pair in GONE.T.tolist()}
    nodes = asked(classifier, nodes=[1, 2])
    task, _ = nodes.before.shadow(nodes.deleted, torch.Generator().manual_seed(0))
    back = torch.tensor([place[tuple(row)] for row in task.x.tolist()])
    assert not torch.isin(back, torch.cat([nodes.deleted, nodes.before.elements])).any()
    assert shadow_attack(nodes)(nodes.before, classifier, nodes.deleted).shape == (2,)


def test_gnndelete_trains_its_operators_alone_and_leaves_far_nodes_alone(linker: nn.Module) -> None:
    deletion = asked(linker, edges=GONE[:, :1])
    found, _ = carried_out(deletion, checked_method(dict(type="gnndelete", epochs=20, lr=0.01)))
    new, old = dict(found.named_parameters()), dict(linker.named_parameters())
    operators = [
        name
        for name in new
        if name.count(".") == 2 and name.endswith(".weight") and name.replace(".weight", ".layer.bias") in new
    ]
    rest = {name.replace(".layer.", "."): each for name, each in new.items() if name not in operators}
    assert len(operators) == 2
    assert rest.keys() == old.keys()
    assert all(torch.equal(rest[name], old[name]) for name in old)
    assert not any(torch.equal(new[name], torch.eye(len(new[name]))) for name in operators)
    one, two = (deletion.told(each) for each in (found, linker))
    far = ~deletion.reach(2)
    assert far.any()
    assert torch.equal(one[far], two[far])
    assert not torch.equal(one[~far], two[~far])
    with pytest.raises(ValueError, match="single nodes of a graph of 160; it was shown one of 100"):
        found(GRAPH.x[:100], GRAPH.edge_index[:, :0])


def test_a_layer_of_gnndelete_learns_from_its_own_loss(linker: nn.Module) -> None:
    """Were the last layer's loss to reach the first operator, it would move although its own loss has no gradient."""
    from graphkd.unlearning.layers import layered

    x = GRAPH.x.clone().requires_grad_(True)
    first, last = layered(linker, lambda: linker(x, GRAPH.edge_index), apart=True)
    (last.sum()).backward()
    assert x.grad is None
    first, _ = layered(linker, lambda: linker(x, GRAPH.edge_index))
    first.sum().backward()
    assert x.grad is not None


def test_unlinking_changes_no_weight_and_climbing_raises_the_loss(linker: nn.Module) -> None:
    deletion = asked(linker, edges=GONE)
    linked, bill = carried_out(deletion, checked_method("utu"))
    assert same(linked, linker)
    assert bill.flops == 0
    climbed, _ = carried_out(deletion, checked_method(dict(type="gradient_ascent", epochs=5)))
    assert scores(deletion, climbed, GONE).mean() < scores(deletion, linker, GONE).mean()


@pytest.mark.parametrize("kind", ["edges", "nodes"])
def test_retraining_never_sees_what_was_deleted(linker: nn.Module, classifier: nn.Module, kind: str) -> None:
    """The result is the same whatever deleted elements are."""
    if kind == "edges":
        one = asked(linker, edges=GONE)
        whole = replace(LINKS, train=LINKS.train[:, 30:])
        other = network(16)
        other = redrawn(other, 0)
        fit(other, GRAPH, task="links", split=whole, trained=TRAINED)
    else:
        one = asked(classifier, nodes=[1, 2])
        x, y = GRAPH.x.clone(), GRAPH.y.clone()
        x[[1, 2]], y[[1, 2]] = 7.0, 0
        other_graph = replace(GRAPH, x=x, y=y)
        given = dict(edges=None, nodes=[1, 2], classes=None)
        changed, _ = prepared(classifier, other_graph, task=None, split=None, trained=TRAINED, seed=0, **given)
        other, _ = carried_out(changed, checked_method("retrain"))
    again, _ = carried_out(one, checked_method("retrain"))
    assert same(again, other)


@pytest.mark.parametrize("method", SHORT.values(), ids=SHORT)
def test_the_model_given_is_as_it_was_and_the_report_is_json(linker: nn.Module, method: dict[str, Any]) -> None:
    before = copy.deepcopy(linker)
    flags = [each.requires_grad for each in linker.parameters()]
    found = unlearn(linker, GRAPH, edges=GONE, method=method, split=LINKS, trained=TRAINED)
    assert same(linker, before)
    assert [each.requires_grad for each in linker.parameters()] == flags
    report = json.loads(json.dumps(found.report))
    assert {frozenset(pair) for pair in report["removed"]["edges"]} == {frozenset(pair) for pair in GONE.T.tolist()}
    assert report["method"] == method
    assert found.split.train.shape[1] == LINKS.train.shape[1] - 30
    assert (report["MFLOP"] > 0) == (method["type"] != "utu")
    with torch.no_grad():
        h = found.model(found.graph.x, torch.cat([found.split.train, found.split.train.flip(0)], 1))
    kept, gone = ((h[pairs[0]] * h[pairs[1]]).sum(1).numpy() for pairs in (found.split.train, GONE))
    truth = np.repeat([1, 0], [len(kept), len(gone)])
    assert report["after"]["AUC_d"] == pytest.approx(roc_auc_score(truth, np.concatenate([kept, gone])), abs=1e-6)


def test_deletions_one_after_another(linker: nn.Module) -> None:
    first = unlearn(linker, GRAPH, edges=GONE[:, :10], method=SHORT["gnndelete"], split=LINKS, trained=dict(epochs=3))
    for method in (SHORT["gnndelete"], SHORT["d2dgn"], SHORT["retrain"]):
        second = unlearn(
            first.model,
            first.graph,
            edges=GONE[:, 10:],
            method=method,
            split=first.split,
            trained=dict(epochs=3),
            audit=True,
        )
        assert second.split.train.shape[1] == LINKS.train.shape[1] - 30
        assert second.graph.edge_index.shape[1] == GRAPH.edge_index.shape[1] - 60
    with pytest.raises(ValueError, match=r"which is none of the \d+ edges that the model has learned from"):
        unlearn(first.model, first.graph, edges=GONE[:, :1], split=first.split)


def test_networks_of_others_and_predictors_are_unlearned_too() -> None:
    pyg = GCN(16, 32, 2, 8)
    data = SimpleNamespace(x=GRAPH.x, edge_index=GRAPH.edge_index)
    for model in (pyg, LinkGNN(network(16), 16)):
        for method in (
            dict(type="d2dgn", destroyer="non_edges", epochs=2),
            dict(type="d2dgn", form="features", epochs=2),
            SHORT["gnndelete"],
        ):
            found = unlearn(
                model, data, edges=[(int(a), int(b)) for a, b in GONE.T[:2]], method=method, trained=dict(epochs=2)
            )
            assert found.report["after"]["AUC_d"] >= 0
    found = unlearn(LinkGNN(network(16), 16), GRAPH, nodes=[0, 1], method="utu")
    edges = torch.tensor(found.report["removed"]["edges"])
    assert ((edges == 0) | (edges == 1)).any(1).all()
    assert not torch.isin(found.graph.edge_index, torch.tensor([0, 1])).any()


def test_mistakes_are_named_before_anything_is_trained(linker: nn.Module, classifier: nn.Module, monkeypatch) -> None:
    def trained(*given: Any, **named: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr("graphkd.unlearning.task.train", trained)
    monkeypatch.setattr("graphkd.unlearning.deletion.train", trained)
    lone = SimpleNamespace(x=torch.ones(1, 16), edge_index=torch.zeros(2, 0, dtype=torch.long), y=torch.tensor([0]))
    absent = next(
        [a, b] for a in range(9) for b in range(9, 20) if not (torch.tensor([a, b]) == GRAPH.edge_index.T).all(1).any()
    )
    u, v = GONE[:, 0].tolist()
    for model, data, told, wanted in (
        (linker, GRAPH, "name what is to be forgotten by one of edges, nodes, classes, got none", {}),
        (linker, GRAPH, "got edges and nodes", dict(edges=GONE, nodes=[1])),
        (linker, GRAPH, "edges names node 160, but the graph has the nodes 0 to 159", dict(edges=[(0, 160)])),
        (linker, GRAPH, f"edges names {absent[0]}-{absent[1]}, which is none of the", dict(edges=[absent])),
        (linker, GRAPH, f"edges names {u}-{v} twice", dict(edges=[(u, v), (u, v)])),
        (linker, GRAPH, "edges is empty", dict(edges=[])),
        (linker, GRAPH, "edges are to be deleted, and nothing would be left", dict(edges=GRAPH.edge_index)),
        (linker, lone, "fewer than two nodes, and so no edge", dict(edges=[(0, 0)])),
        (classifier, GRAPH, "nodes names 160, but the graph has nodes 0 to 159", dict(nodes=[160])),
        (classifier, GRAPH, "nodes names -1", dict(nodes=[-1])),
        (classifier, GRAPH, "nodes names 3 twice", dict(nodes=[3, 4, 3])),
        (classifier, GRAPH, "nodes is empty", dict(nodes=[])),
        (classifier, GRAPH, "all train nodes of the split are to be deleted", dict(nodes=torch.arange(160))),
        (classifier, GRAPH, "classes names 7, but the graph has classes 0 to 3", dict(classes=[7])),
        (classifier, replace(GRAPH, num_classes=5), "class 4 has no nodes", dict(classes=[4])),
        (
            classifier,
            GRAPH,
            "is for links, and nodes are",
            dict(nodes=[1], method=dict(type="d2dgn", destroyer="non_edges")),
        ),
        (
            classifier,
            GRAPH,
            "alpha is the weight of what is retained",
            dict(nodes=[1], method=dict(type="d2dgn", alpha=2.0)),
        ),
        (
            classifier,
            replace(GRAPH, edge_weight=torch.full((GRAPH.edge_index.shape[1],), 2.0)),
            "without edge_weight",
            dict(nodes=[1]),
        ),
        (linker, GRAPH, "logits of 160 nodes by 4 classes", dict(nodes=[1])),
        (nn.Bilinear(2, 2, 2), GRAPH, "cannot be run on the graph", dict(nodes=[1])),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            unlearn(model, data, **wanted)
    with pytest.raises(KeyError, match="did you mean 'd2dgn'"):
        unlearn(linker, GRAPH, edges=GONE, method="d2dg")
    with pytest.raises(TypeError, match="nodes is a list of ids, which are integers"):
        unlearn(classifier, GRAPH, nodes=[0.5])
    with pytest.raises(TypeError, match=r"edges is a tensor or an array \(2, n\), or a list of pairs"):
        unlearn(linker, GRAPH, edges=[1, 2, 3])


def test_weights_that_cannot_be_drawn_anew_are_named(linker: nn.Module) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.scale = network(16), nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.scale * self.inner(x, edge_index)

    with pytest.raises(ValueError, match="the parameter 'scale' of Scaled cannot be drawn anew"):
        unlearn(Scaled(), GRAPH, edges=GONE)


CONFIG = """
data = "graphs_of_tests:blocks"
task = "links"
teacher = dict(type="gcn", hidden=16, width=8, dropout=0.0, weight_decay=0.0, epochs=5)
forget = dict(edges=0.05)
methods = [dict(type="d2dgn", epochs=2), dict(type="gnndelete", epochs=2)]
"""


def test_one_command_prints_the_table_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "graphs_of_tests", SimpleNamespace(blocks=blocks))
    (tmp_path / "mine").mkdir()
    config, out = tmp_path / "mine" / "blocks.py", tmp_path / "log.json"
    config.write_text(CONFIG)
    command.main([str(config), "--seeds", "1", "--out", str(out)])
    text = capsys.readouterr().out
    for row in ("reference, retrain", "reference, gnndelete", "teacher, gcn", "control", "distilled, d2dgn"):
        assert f"| {row} |" in text
    logs = json.loads(out.read_text())
    assert [log["method"] for log in logs] == ["gcn", "retrain", "utu", "d2dgn", "gnndelete"]
    assert logs[0]["deleted"]["edges"]
    assert logs[1]["metrics"]["distance"] == 0
    assert {"AUC_d", "AUC_t", "MI ratio", "distance", "MFLOP"} <= logs[3]["metrics"].keys()
    before = out.read_bytes()
    command.main([str(config), "--seeds", "1", "--out", str(out)])
    assert out.read_bytes() == before
    for old, new, message in (
        ("methods = [", 'methods = [dict(type="utu"), ', "'utu' runs in any case"),
        ("forget", "forgets", "has a key 'forgets'.*did you mean 'forget'"),
        ("gnndelete", "d2dgn", "methods lists 'd2dgn.*' twice"),
        ('type="d2dgn"', 'type="d2dgn", alpha=2.0', "alpha is the weight of what is retained"),
        ('type="d2dgn", ', "", "no method is called None"),
        ("methods = [", "methods = [3, ", "no method is called 3"),
        ('task = "links"', 'task = "link"', "task is 'links' or 'nodes', got 'link'"),
        ("hidden=16", "hidden=16, known=[0, 1]", "the teacher has options of `distill`"),
        ("edges=0.05", "edges=0.0001", "0.0001 of .* edges is 0"),
        ("edges=0.05", 'edges=0.05, where="near"', "where is 'in' or 'out'"),
    ):
        config.write_text(CONFIG.replace(old, new))
        with pytest.raises(SystemExit, match=message):
            command.main([str(config), "--seeds", "1", "--out", str(tmp_path / "other.json")])
    assert not (tmp_path / "other.json").exists()


def test_a_layer_that_keeps_the_edges_it_saw_first_answers_over_those_that_are_left() -> None:
    class Net(nn.Module):
        def __init__(self, cached: bool) -> None:
            super().__init__()
            self.one, self.two = GCNConv(16, 32, cached=cached), GCNConv(32, 8, cached=cached)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.two(self.one(x, edge_index).relu(), edge_index)

    plain, cached = Net(False), Net(True)
    cached.load_state_dict(plain.state_dict())
    cached(GRAPH.x, torch.cat([LINKS.train, LINKS.train.flip(0)], 1))
    one, other = (unlearn(each, GRAPH, edges=GONE, method="utu", split=LINKS) for each in (plain, cached))
    assert one.report["after"] == other.report["after"]
    assert cached.one.cached


@pytest.mark.parametrize("method", ["d2dgn", "gradient_ascent"])
def test_labels_of_deleted_nodes_that_were_not_learned_are_not_read(classifier: nn.Module, method: str) -> None:
    spec = dict(type=method, epochs=4)
    test, y = GRAPH.split.test[:8], GRAPH.y.clone()
    y[test] = (y[test] + 1) % 4
    wanted = dict(nodes=torch.cat([test, GRAPH.split.train[:2]]), method=spec, trained=TRAINED)
    one, other = (unlearn(classifier, each, **wanted) for each in (GRAPH, replace(GRAPH, y=y)))
    assert same(one.model, other.model)
    assert one.report["after"] == other.report["after"]
    assert one.report["before"] == other.report["before"]


def test_accuracy_before_and_after_is_of_the_same_nodes(classifier: nn.Module) -> None:
    found = unlearn(classifier, GRAPH, classes=[2], method="utu")
    with torch.no_grad():
        told = classifier.eval()(GRAPH.x, GRAPH.edge_index).argmax(1)
    test = found.split.test
    assert found.report["before"]["accuracy"] == float((told == GRAPH.y)[test].double().mean())


def test_gnndelete_compares_deleted_ends_with_non_edges_and_others_with_themselves(linker: nn.Module) -> None:
    """Its first loss in NumPy, from rows of the layers read by hand."""
    deletion = asked(linker, edges=GONE[:, :3])
    seen: list[float] = []

    class Watched(Deletion):
        def train(self, model: nn.Module, loss: Any, *rest: Any, **more: Any) -> Any:
            seen.append(float(loss(slice(None)).detach()))

    watched = Watched(**{name: getattr(deletion, name) for name in ("model", "before", "after", "deleted", "schedule")})
    UNLEARNERS["gnndelete"](watched, lam=0.3, start="small")
    rows = [each.double().numpy() for each in deletion.told_layers(linker)]
    drawn = deletion.after.strangers(3, torch.Generator().manual_seed(0)).flatten().numpy()
    gone, sources = deletion.deleted.flatten().numpy(), deletion.before.edge_index.numpy()
    near, total, h = set(gone.tolist()), 0.0, None
    for layer, plain in enumerate(rows):
        near |= set(sources[1][np.isin(sources[0], list(near))].tolist())
        if h is not None:  # the second layer reads what the first operator has left
            inner = torch.from_numpy(h).float().relu()
            with torch.no_grad():
                h = linker.layers[layer](inner, deletion.after.edge_index).double().numpy()
        h = plain.copy() if h is None else h.copy()
        h[list(near)] = h[list(near)].sum(1, keepdims=True) * 1e-3
        others = sorted(near - set(gone.tolist()))
        total += 0.3 * np.square(h[gone] - plain[drawn]).mean() + 0.7 * np.square(h[others] - plain[others]).mean()
    assert seen == [pytest.approx(total, rel=1e-4)]


def test_a_destroyer_of_non_edges_learns_no_edge(linker: nn.Module) -> None:
    seen = []

    class Watched(Deletion):
        def fit(self, model: nn.Module, task: Any) -> Any:
            seen.append(task.elements)

        def train(self, *rest: Any, **more: Any) -> Any:
            pass

    deletion = asked(linker, edges=GONE)
    watched = Watched(**{name: getattr(deletion, name) for name in ("model", "before", "after", "deleted", "schedule")})
    UNLEARNERS["d2dgn"](watched, destroyer="non_edges")
    edges = {frozenset(pair) for pair in deletion.after.elements.T.tolist()}
    assert seen[0].shape == deletion.after.elements.shape
    assert not {frozenset(pair) for pair in seen[0].T.tolist()} & edges


def test_networks_that_cannot_be_taught_are_named(linker: nn.Module, classifier: nn.Module) -> None:
    class Odd(nn.Module):
        def __init__(self, change: Any) -> None:
            super().__init__()
            self.inner, self.change = network(16), change

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.change(self.inner(x, edge_index))

    class Attentive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = GATConv(16, 8)

        def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
            return self.layer(x, edge_index, return_attention_weights=True)[0]

    idle = Odd(lambda h: h)
    idle.rest = GCNConv(8, 8)
    of_layers, random = SHORT["gnndelete"], dict(type="d2dgn", form="features", start="random")
    for model, told, method in (
        (network(16).half(), "is in torch.float16, in which small steps are lost: pass model.float()", "d2dgn"),
        (Odd(lambda h: h[:, 0]), "a row for each of 160 nodes", "utu"),
        (Odd(lambda h: h[:50]), "a row for each of 160 nodes", "utu"),
        (Odd(lambda h: h * torch.nan), "gives NaN or infinite numbers", "utu"),
        (idle, "the layer 'rest' of Odd is never called", of_layers),
        (Attentive(), "the layer 'layer' yields a tuple", of_layers),
        (LinkGNN(network(16), 16), "does not reach 'predictor.mlp", random),
    ):
        with pytest.raises(ValueError, match=re.escape(told)):
            unlearn(model, GRAPH, edges=GONE, method=method)
    silent = replace(GRAPH, y=GRAPH.y.index_fill(0, GRAPH.split.val[:1], -1))
    with pytest.raises(ValueError, match=r"node \d+ of the split's val part has no label"):
        unlearn(classifier, silent, nodes=[1])
    with pytest.raises(ValueError, match="no node of the graph has a label"):
        unlearn(classifier, replace(GRAPH, y=torch.full_like(GRAPH.y, -1), split=None), nodes=[1])
    with pytest.raises(ValueError, match="logits of 160 nodes by 4 classes"):
        fit(network(3), GRAPH, task="nodes")
    with pytest.raises(TypeError, match="a graph network"):
        fit(3, GRAPH, task="links")
    with pytest.raises(TypeError, match="trained has no option 'lrr'; did you mean 'lr'"):
        unlearn(linker, GRAPH, edges=GONE, trained=dict(lrr=0.1))
    with pytest.raises(TypeError, match="trained is a dict of how the model was trained, got 'x'"):
        unlearn(linker, GRAPH, edges=GONE, trained="x")
    with pytest.raises(TypeError, match=r"nodes is a list of ids, which are integers; got \{1, 2\}"):
        unlearn(classifier, GRAPH, nodes={1, 2})
    with pytest.raises(ValueError, match="edges: edge_index holds node numbers, which are integers"):
        unlearn(linker, GRAPH, edges=[(0.5, 1.0)])


def test_an_attack_that_has_too_few_data_is_refused_before_anything_is_trained(monkeypatch) -> None:
    def trained(*given: Any, **named: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr("graphkd.unlearning.deletion.train", trained)
    path = SimpleNamespace(x=torch.randn(3, 16), edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]))
    with pytest.raises(ValueError, match="too few for an attack on membership"):
        unlearn(network(8), path, edges=[(0, 1)], audit=True)


def test_a_network_of_doubles_forgets_by_gnndelete() -> None:
    found = unlearn(network(16).double(), GRAPH, edges=GONE, method=SHORT["gnndelete"])
    assert {each.dtype for each in found.model.parameters()} == {torch.float64}

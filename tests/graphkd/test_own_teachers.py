"""A teacher of one's own: a module of PyG, a function in a config, or a cache that something else wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from graphkd import Cache, Graph, StudentClassifier, cpf_split, digits, distill, load, make_setting, train_teacher
from graphkd.cli.distill import main
from graphkd.data import undirected
from graphkd.teachers.gnn import GNN
from graphkd.teachers.sage import sage

Run = Callable[[str], list[dict[str, Any]]]
ROOT = Path(__file__).parents[2]
STUDENT = StudentClassifier(hidden=(32,), epochs=40)
MINE = """
import torch
from torch_geometric.nn import GraphSAGE

def mine(in_features, classes, *, width=16):
    return GraphSAGE(in_features, width, 2, classes)

def trained(in_features, classes, *, weights):
    network = mine(in_features, classes)
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network
"""


@pytest.fixture(scope="module")
def graph() -> Graph:
    return digits()


@pytest.fixture(scope="module")
def network(graph: Graph) -> nn.Module:
    """PyG's own model, trained by hand, as in its introduction."""
    from torch_geometric.nn import GraphSAGE

    torch.manual_seed(0)
    network, train = GraphSAGE(64, 16, 2, 10), cpf_split(graph.y, 0).train
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(graph.x, graph.edge_index)[train], graph.y[train]).backward()
        optimiser.step()
    return network


def write_cache(folder: Path, graph: Graph, network: nn.Module, setting: str) -> None:
    """By NumPy and json alone, as another engine would."""
    view = make_setting(graph, cpf_split(graph.y, 0), setting, 0)  # type: ignore[arg-type]
    logits = np.full((len(graph), 10), np.nan, np.float32)
    with torch.no_grad():
        logits[view.observed] = network(view.seen.x, view.seen.edge_index).numpy()
    folder.mkdir(parents=True)
    np.save(folder / "logits.npy", logits)
    np.save(folder / "node_id.npy", np.arange(len(graph)))
    np.save(folder / "observed.npy", np.isfinite(logits).all(1))
    meta = {"format": 1, "fingerprint": graph.fingerprint(), "hidden": 0, "settings": {}}
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the tool on a config with this teacher, in a folder that Python can import from."""
    (tmp_path / "my_teachers.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_teachers", raising=False)
    monkeypatch.chdir(tmp_path)

    def run(teacher: str) -> list[dict[str, Any]]:
        config = tmp_path / "own" / "digits.py"
        config.parent.mkdir(exist_ok=True)
        config.write_text(
            f"_base_ = {str(ROOT / 'configs/_base_/graph.py')!r}\ndata = 'digits'\nteacher = dict({teacher})\n"
            "student = dict(hidden=[32], dropout=0.0, epochs=40)\nmethods = [dict(type='glnn')]\n"
        )
        monkeypatch.setattr(sys, "argv", ["distill_graph.py", str(config), "--seeds", "1", "--out", "log.json"])
        main()
        return json.loads((tmp_path / "log.json").read_text())

    return run


def test_a_module_of_pyg_teaches_as_it_is(graph: Graph, network: nn.Module) -> None:
    result = distill(graph, network, "glnn", student=STUDENT)
    assert result.metrics["teacher"]["tran"] > 0.9
    assert result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    assert result.latency["teacher"]
    logits = network(graph.x, graph.edge_index).detach()
    np.testing.assert_allclose(result.cache.logits, logits, atol=1e-5)


@pytest.mark.parametrize("layer", ["GraphSAGE", "GIN"])
def test_a_module_that_wants_dense_features_teaches_on_sparse_ones(layer: str) -> None:
    """Layers of PyG that gather features before the linear map do not take sparse ones."""
    import torch_geometric.nn as pyg

    draw = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = nn.functional.one_hot(20 * y + torch.randint(20, (300,), generator=draw), 60).float()
    near = torch.randperm(100, generator=draw) * 3
    edges = torch.cat([torch.stack([near + k, near.roll(1) + k]) for k in range(3)], dim=1)
    sparse = Graph.of(SimpleNamespace(x=x, y=y, edge_index=edges))
    assert sparse.x.layout is torch.sparse_csr

    def build(in_features: int, classes: int) -> nn.Module:
        return getattr(pyg, layer)(in_features, 16, 2, classes)

    trained = distill(sparse, dict(type=build, epochs=30), "glnn", student=STUDENT)
    assert trained.metrics["teacher"]["tran"] > 0.6
    own = trained.outcomes["teacher"]["tran"].model
    taken = distill(sparse, [own, own], "glnn", student=STUDENT, setting="ind")
    assert taken.metrics["teacher"]["prod"] > 0.6
    assert taken.cache.fingerprint == undirected(sparse).fingerprint()


def test_a_config_trains_a_function_of_ones_own(run: Run) -> None:
    with pytest.raises(SystemExit, match=r"digits\.py: teacher 'mine' has no option 'widht'; did you mean 'width'"):
        run("type='my_teachers:mine', widht=24")
    teacher, control, student = run("type='my_teachers:mine', width=24, epochs=30")
    assert (teacher["method"], teacher["schedule"]) == ("mine", "at most 30 epochs")
    assert teacher["params"] == 2 * 64 * 24 + 24 + 2 * 24 * 10 + 10
    assert student["metrics"]["tran"] > control["metrics"]["tran"]


def test_a_config_takes_a_trained_network_as_it_is(run: Run, tmp_path: Path, graph: Graph, network: nn.Module) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    teacher = run("type='my_teachers:trained', weights='weights.pt', epochs=0")[0]
    result = distill(graph, network, "glnn", student=STUDENT)
    for key, value in result.metrics["teacher"].items():
        assert teacher["metrics"][key] == pytest.approx(100 * value)


def test_a_config_takes_caches_that_something_else_wrote(
    run: Run, tmp_path: Path, graph: Graph, network: nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    for setting in ("tran", "ind"):
        write_cache(tmp_path / f"caches/{setting}-0", graph, network, setting)
    teacher, control, student = run("_delete_=True, cache='caches/{setting}-{seed}'")
    assert (teacher["method"], teacher["params"], teacher["latency_ms"]) == ("cache", None, None)
    view, split = make_setting(graph, cpf_split(graph.y, 0), "tran", 0), cpf_split(graph.y, 0)
    right = network(view.seen.x, view.seen.edge_index).argmax(1)[split.test] == graph.y[split.test]
    assert teacher["metrics"]["tran"] == pytest.approx(100 * right.double().mean().item())
    assert student["metrics"]["tran"] > control["metrics"]["tran"]
    assert student["metrics"]["prod"] > control["metrics"]["prod"]
    assert "| teacher | 1 |" in capsys.readouterr().out


def test_what_is_wrong_with_a_cache_is_said_before_anything_is_trained(
    run: Run, tmp_path: Path, graph: Graph, network: nn.Module
) -> None:
    write_cache(tmp_path / "caches/tran-0", graph, network, "tran")
    with pytest.raises(SystemExit, match=r"digits\.py: caches/ind-0 is no teacher cache: it has no meta\.json"):
        run("_delete_=True, cache='caches/{setting}-{seed}'")
    with pytest.raises(SystemExit, match=r"a teacher from a cache has no other option: dict\(_delete_=True, "):
        run("cache='caches/{setting}-{seed}'")
    assert not (tmp_path / "log.json").exists()
    cache = Cache.load(tmp_path / "caches/tran-0")
    with pytest.raises(ValueError, match=r"needs \['noisy'\] of the teacher, which its cache does not have"):
        train_teacher(make_setting(graph, cpf_split(graph.y, 0), "tran", 0), cache, 0, ["noisy"])


def test_a_function_that_is_no_graph_and_no_teacher_is_named(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "no_parts.py").write_text("def needs(folder): ...\nthing = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name, message in (
        (
            "needs",
            r"^graph 'no_parts:needs' cannot be called with the options \[\]: missing a required",
        ),
        ("thing", r"^graph 'no_parts:thing' must be a function that returns a graph, it is a int$"),
    ):
        with pytest.raises(TypeError, match=message):
            load(f"no_parts:{name}")
    with pytest.raises(TypeError, match=r"^the teacher 'bare' must be a function \(in_features, classes\): too many"):
        distill(graph, bare, student=STUDENT)


def bare() -> None:
    """Takes nothing."""


class Told(GNN):
    """A stack of layers that returns its logits beside something else."""

    def forward(self, x: torch.Tensor, edge_index: torch.Tensor) -> Any:  # type: ignore[override]
        *_, hidden, logits = self.outputs(x, edge_index)
        return logits, hidden


def test_a_stack_that_returns_more_than_logits_is_trained(graph: Graph) -> None:
    view = make_setting(graph, cpf_split(graph.y, 0), "tran", 0)

    def told(in_features: int, classes: int) -> nn.Module:
        return Told([*sage(in_features, classes, hidden=16).layers])

    assert train_teacher(view, dict(type=told, epochs=2), 0).model is not None

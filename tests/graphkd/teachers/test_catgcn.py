"""CatGCN: fields of a node interact before a neighbour is heard."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from graphkd import Graph, StudentClassifier, cpf_split, distill, make_setting, train_teacher
from graphkd.data import Setting, load
from graphkd.data.fields import multi_hot, profiles
from graphkd.sparse.rows import compact
from graphkd.teachers.catgcn import Interactions, catgcn, field_filter

QUICK = dict(type="catgcn", width=32, hops=2, beta=0.5, dropout=0.2, epochs=60, lr=0.02)


@pytest.fixture(scope="module")
def people() -> Setting:
    """Profiles of which two fields together tell the class."""
    graph = load(dict(type="graphkd.data.fields:profiles", nodes=600, values=4, classes=2, fields=3))
    return make_setting(graph, cpf_split(graph.y, 0, 60, 60), "tran", 0)


def bag(nodes: int = 30, words: int = 12) -> Tensor:
    return (torch.rand(nodes, words, generator=torch.Generator().manual_seed(0)) < 0.3).float()


def test_the_filter_in_closed_form_is_the_dense_matrix() -> None:
    e, rho = torch.randn(5, 3, dtype=torch.float64), 39.0
    dense = np.ones((5, 5)) + rho * np.eye(5)
    scale = np.diag(dense.sum(1) ** -0.5)
    expected = scale @ dense @ scale @ e.numpy()
    found = field_filter(e, e.sum(0).expand(5, 3), torch.full((5,), 5), rho)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_interactions_are_the_sums_over_fields_and_pairs_of_fields(weighted: bool) -> None:
    torch.manual_seed(0)
    x = bag().double() * (torch.rand(30, 12) if weighted else 1)
    network = Interactions(12, 6, rho=7.0, cap=99).double()
    found = network(x, torch.empty(2, 0)).detach().numpy()
    rows, weight, bias = (each.detach().numpy() for each in (network.rows, *network.linear.parameters()))
    for node in range(30):
        fields = np.flatnonzero(x[node].numpy())
        e = x[node, fields].numpy()[:, None] * rows[fields]
        dense = (np.ones((len(e), len(e))) + 7 * np.eye(len(e))) / (len(e) + 7)
        of_all = np.maximum(dense @ e @ weight.T + bias, 0).mean(0) if len(e) else np.zeros(6)
        of_pairs = sum((e[i] * e[j] for i in range(len(e)) for j in range(i)), np.zeros(6))
        np.testing.assert_allclose(found[node], np.concatenate([of_all, of_pairs]), atol=1e-12)


def test_the_order_of_fields_and_empty_columns_do_not_matter() -> None:
    torch.manual_seed(0)
    x, edges = bag(), torch.randint(30, (2, 60))
    network, order = catgcn(12, 3, width=8).eval(), torch.randperm(12)
    other = catgcn(14, 3, width=8).eval()
    state = {**network.state_dict(), "layers.0.trained": torch.ones(14, dtype=torch.bool)}
    state["layers.0.rows"] = torch.cat([network.layers[0].rows[order], torch.randn(2, 8)])
    other.load_state_dict(state)
    padded = torch.cat([x[:, order], torch.zeros(30, 2)], 1)
    torch.testing.assert_close(other(padded, edges), network(x, edges))


def test_without_hops_no_edge_is_read_and_with_them_they_are_the_power_of_the_matrix() -> None:
    torch.manual_seed(0)
    x, edges = bag(), torch.randint(30, (2, 60))
    edges = edges[:, edges[0] != edges[1]]
    alone = catgcn(12, 3, width=8, hops=0).eval()
    assert torch.equal(alone(x, edges), alone(x, edges[:, :0]))
    network = catgcn(12, 3, width=8, hops=3).eval()
    network.load_state_dict(alone.state_dict())
    dense = torch.eye(30).index_put(tuple(edges.flip(0)), torch.ones(1), accumulate=True)
    scale = dense.sum(1).rsqrt()
    a = scale[:, None] * dense * scale
    torch.testing.assert_close(network(x, edges), torch.linalg.matrix_power(a, 3) @ alone(x, edges))


def test_pairs_of_fields_tell_what_no_field_does(people: Setting) -> None:
    """Without interactions, the same propagation knows less: the fields alone say nothing about the class."""
    taught = train_teacher(people, QUICK, 0).metrics["tran"]
    alone = train_teacher(people, {**QUICK, "hops": 0, "beta": 0.0}, 0).metrics["tran"]
    plain = train_teacher(people, dict(type="sgc", hops=0, epochs=60, lr=0.02), 0).metrics["tran"]
    smooth = train_teacher(people, dict(type="sgc", hops=2, epochs=60, lr=0.02), 0).metrics["tran"]
    assert alone > 0.95
    assert plain < 0.65
    assert taught > smooth + 0.1


def test_it_teaches_a_student_by_its_cache(people: Setting) -> None:
    student = StudentClassifier((32,), 0.2, epochs=60)
    result = distill(people.whole, QUICK, "glnn", student=student, setting="tran", split=cpf_split(people.whole.y, 0))
    assert result.metrics["student"]["tran"] > result.metrics["control"]["tran"]
    assert [layer.shape for layer in result.cache.hidden] == [(600, 64)]


def test_a_field_that_nobody_had_in_training_counts_as_absent() -> None:
    torch.manual_seed(0)
    x, edges = bag(), torch.randint(30, (2, 60))
    x[:, 11] = 0
    network = catgcn(12, 3, width=8)
    network(x, edges)
    network.eval()
    later = x.clone()
    later[3, 11] = 1
    torch.testing.assert_close(network(later, edges), network(x, edges))
    network.layers[0].trained[11] = True
    assert not torch.allclose(network(later, edges), network(x, edges))


def test_a_step_draws_some_of_many_fields_and_evaluation_hears_all() -> None:
    torch.manual_seed(0)
    x = torch.ones(1, 40)
    network = Interactions(40, 8, rho=100.0, cap=4)
    drawn = torch.stack([network(x, torch.empty(2, 0))[0] for _ in range(400)])
    whole = network.eval()(compact(x), torch.empty(2, 0))[0]
    assert drawn[:, :8].std(0).max() > 0.01
    torch.testing.assert_close(drawn.mean(0), whole, atol=0.03, rtol=0.05)
    torch.testing.assert_close(drawn[:, 8:], whole[8:].expand(400, -1), atol=1e-4, rtol=1e-4)


def test_edge_weights_are_read() -> None:
    torch.manual_seed(0)
    x, edges = bag(), torch.tensor([[0, 1], [1, 0]])
    network = catgcn(12, 3, width=8).eval()
    assert network.supports_edge_weight
    assert not torch.allclose(network(x, edges, torch.tensor([5.0, 5.0])), network(x, edges))


WRONG: dict[str, tuple[Any, list[int], str]] = {
    "negative": ([[0, 1], [1, -1]], [2, 3], "field 1 of node 1 has the value -1, which is negative"),
    "unseen": ([[0, 1], [2, 1]], [2, 3], "field 0 of node 1 has the value 2, which is unseen.* values 0 to 1"),
    "fraction": ([[0, 0.5]], [2, 3], "field 1 of node 0 has the value 0.5, which is no whole number"),
    "NaN": ([[np.nan, 0]], [2, 3], "field 0 of node 0 has the value nan, which is no whole number"),
    "too few columns": ([[0], [1]], [2, 3], r"ids are numbers \(N, 2\).* got int64 \(2, 1\)"),
    "names": ([["a", "b"]], [2, 3], r"ids are numbers \(N, 2\)"),
    "no values": ([[0, 0]], [2, 0], "sizes are whole numbers from 1"),
    "no fields": ([[]], [], "sizes are whole numbers from 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_fields_are_named(case: str) -> None:
    ids, sizes, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        multi_hot(ids, sizes)


def test_features_that_are_no_fields_are_named_before_training() -> None:
    y, edges = torch.arange(90) % 3, torch.stack([torch.arange(90), (torch.arange(90) + 3) % 90])
    both = torch.cat([edges, edges.flip(0)], 1)
    x = torch.eye(3, 6)[y]
    x[4, 5] = -0.5
    endless = dict(type="catgcn", epochs=10**9)
    data = SimpleNamespace(x=x, edge_index=both, y=y)
    student = StudentClassifier((8,), epochs=3)
    split = cpf_split(y, 0, 5, 5)
    with pytest.raises(ValueError, match=r"node 4 has -0.5 in column 5: make columns of ids with .*multi_hot"):
        distill(data, endless, student=student, split=split)
    positive = SimpleNamespace(x=x.abs(), edge_index=both, y=y)
    for options, message in (
        (dict(beta=1.5), "beta is from 0 to 1, got 1.5"),
        (dict(rho=-1), "rho is a finite number from 0, got -1"),
        (dict(cap=0), "cap is a whole number from 1, got 0"),
        (dict(hops=True), "hops is a whole number from 0, got True"),
    ):
        with pytest.raises(ValueError, match=message):
            distill(positive, {**endless, **options}, student=student, split=split)
    with pytest.raises(ValueError, match="in column"):  # it adds noise to the features
        distill(positive, endless, "krd", student=student, split=split)


def test_profiles_are_refused_or_say_nothing_field_by_field() -> None:
    with pytest.raises(ValueError, match="values is a multiple of classes"):
        profiles(values=5, classes=4)
    graph = Graph.of(profiles(nodes=3000, values=4, classes=2, fields=2))
    share = torch.stack([graph.y[graph.x.to_dense()[:, column] > 0].float().mean() for column in range(8)])
    assert float((share - 0.5).abs().max()) < 0.07

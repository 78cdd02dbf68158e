"""Odd data of other tasks: what is given is used, or refused by name before anything is trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import HeteroData
from torch_geometric.datasets import FakeDataset, FakeHeteroDataset
from torch_geometric.nn import GCN
from torch_geometric.transforms import NormalizeFeatures

from graphkd import StudentClassifier, digits, distill
from graphkd.data import as_graph
from graphkd.training.term import check_entry

QUICK = StudentClassifier(hidden=(8,), epochs=2)


def graphs(**more: Any) -> list[Any]:
    ring = torch.tensor([[0, 1, 2], [1, 2, 0]])
    draw = torch.Generator().manual_seed(0)
    return [
        SimpleNamespace(**{"x": torch.randn(3, 2, generator=draw), "edge_index": ring, "y": each % 2, **more})
        for each in range(60)
    ]


def papers() -> Any:
    data = HeteroData()
    draw = torch.Generator().manual_seed(0)
    data["paper"].x, data["paper"].y = torch.randn(60, 4, generator=draw), torch.arange(60) % 2
    data["word"].x = torch.eye(5)
    data["word", "in", "paper"].edge_index = torch.stack([torch.arange(60) % 5, torch.arange(60)])
    return data


def test_the_pooling_of_graphs_is_chosen() -> None:
    found = {
        pool: distill(graphs(), dict(type="gin", pool=pool, hidden=8, epochs=1), student=QUICK, setting="tran")
        for pool in ("sum", "mean")
    }
    for pool, result in found.items():
        assert result.outcomes["teacher"]["tran"].model.pool == pool
        assert result.cache.settings["teacher"]["pool"] == pool
    with pytest.raises(ValueError, match=r"pool is 'sum', 'mean' or 'max', not 'avg'"):
        distill(graphs(), dict(type="gin", pool="avg"))
    with pytest.raises(TypeError, match="has the option 'pool' for lists of graphs alone"):
        distill(digits(), dict(type="gin", pool="mean"))


def test_a_split_by_ids_of_the_target_is_kept() -> None:
    data = papers()
    data["paper"].train_idx, data["paper"].valid_idx, data["paper"].test_idx = torch.arange(60).split(20)
    split: Any = as_graph(data, target="paper").split
    assert [part.tolist() for part in (split.train, split.val, split.test)] == torch.arange(60).view(3, 20).tolist()


def test_what_is_not_used_is_named() -> None:
    data = papers()
    data["paper"].pos = torch.randn(60, 2)
    with pytest.warns(UserWarning, match=r"carries pos \(60, 2\), which nothing here uses"):
        as_graph(data, target="paper")
    data = papers()
    data["word", "in", "paper"].edge_time = torch.arange(60)
    with pytest.raises(ValueError, match="have edge_time, which is not supported"):
        as_graph(data, target="paper")
    with pytest.warns(UserWarning, match=r"carries pos \(3, 2\), which nothing here uses"):
        as_graph(graphs(pos=torch.randn(3, 2)))


def test_mistakes_are_named_in_words_of_this_package() -> None:
    data = papers()
    del data["word", "in", "paper"].edge_index
    data["word", "in", "paper"].adj_t = torch.eye(5)
    with pytest.raises(ValueError, match=r"have no edge_index; expected edge_index .* not adj_t"):
        as_graph(data, target="paper")
    parts = torch.arange(60).split(20)
    with pytest.raises(ValueError, match=r"called with the width .* and fails"):
        distill(papers(), lambda inputs, classes: GCN(inputs, 8, 2, classes), target="paper", split=parts)
    for options, message in (
        (dict(edge_index=torch.tensor([[-1], [0]])), "an edge with node -1, but its nodes are 0 to 2"),
        (dict(y="a"), "has the target 'a'; expected a number"),
        (dict(y=float("inf")), "a target is infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            as_graph(graphs(**options))


def test_descriptors_are_numbers() -> None:
    weight = torch.ones(2, requires_grad=True)
    found = as_graph(graphs(), descriptors=lambda data: weight * data.x.mean(0)).x
    np.testing.assert_allclose(found, torch.stack([data.x.mean(0) for data in graphs()]), rtol=1e-6)
    for strange in (["a"], None, 1.0, [], [float("nan")], torch.ones(1, 2)):
        with pytest.raises(ValueError, match="descriptors of graph 0 are"):
            as_graph(graphs(), descriptors=lambda data, found=strange: found)
    with pytest.raises(TypeError, match="descriptors is a function of a graph"):
        as_graph(graphs(), descriptors="mean")  # type: ignore[arg-type]


def test_a_score_without_a_value_is_named_before_training() -> None:
    ran: list[Any] = []
    y = torch.arange(60) % 2
    even, parts = (y == 0).nonzero().flatten(), torch.arange(30).split(15)
    split = dict(train=parts[0], val=parts[1], test=even[even >= 30])
    data = SimpleNamespace(x=torch.randn(60, 2), edge_index=torch.arange(60).view(2, 30).repeat(1, 2), y=y)
    data.edge_index[:, 30:] = data.edge_index[:, 30:].flip(0)
    with pytest.raises(ValueError, match=r"the score 'roc_auc' of 15 samples is nan: they lack a class"):
        distill(data, split=split, student=QUICK, setting="tran", scoring=["accuracy", "roc_auc"], callback=ran.append)
    assert ran == []
    found = distill(data, split=split, student=QUICK, setting="tran", scoring=["accuracy", "neg_brier_score"])
    assert found.metrics["student"]["tran neg_brier_score"] < 0


def test_a_part_of_a_dataset_is_a_set_of_graphs() -> None:
    part = as_graph(torch.utils.data.Subset(graphs(), range(10, 40)))  # type: ignore[arg-type]
    torch.testing.assert_close(part.x, as_graph(graphs()[10:40]).x)
    both = FakeDataset(6, 10, edge_dim=0, num_classes=2)
    assert len(as_graph(both)) == 6
    assert len(as_graph(both[:4])) == 4
    one = FakeDataset(1, 50, edge_dim=0, num_classes=2, task="node", transform=NormalizeFeatures())
    torch.testing.assert_close(as_graph(one).x, one[0].x)
    kinds = FakeHeteroDataset(1, num_node_types=2, num_edge_types=3, avg_num_nodes=20, edge_dim=0)
    assert len(as_graph(kinds, target="v0")) == len(kinds[0]["v0"].y)
    for strange in ({"x": torch.ones(2, 1)}, np.ones((2, 2)), "cora"):
        with pytest.raises(ValueError, match=r"the graph has no tensor 'x'"):
            as_graph(strange)


@pytest.mark.parametrize("loss", ["binary_kl", dict(type="until", loss="binary_kl", stop=0.5), "kl"])
def test_numbers_have_no_sigmoid(loss: Any) -> None:
    with pytest.raises(ValueError, match=r"which has no meaning for regression targets; choose 'mse'$"):
        check_entry(dict(loss=loss), "regression")
    if loss == "binary_kl":
        check_entry(dict(loss=loss), "multi-label")
        check_entry(dict(loss=loss, student="hidden", teacher="hidden"), "regression")

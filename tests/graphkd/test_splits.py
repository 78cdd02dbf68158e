"""A split that the user has: in the graph or in the call, in every usual form, used as it is or refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from graphkd import Graph, Split, StudentClassifier, distill, prepare
from graphkd.data import make_setting, split_of
from graphkd.data.split import as_split

pytestmark = pytest.mark.filterwarnings("ignore:.*no teacher is better")  # after three epochs

N = 60
Y = torch.arange(N) % 3
X = torch.eye(3, 6)[Y] + 0.5 * torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
RING = torch.stack([torch.arange(N), (torch.arange(N) + 3) % N])
EDGES = torch.cat([RING, RING.flip(0)], 1)
IDS = torch.randperm(N, generator=torch.Generator().manual_seed(1))[:48].split([12, 12, 24])  # 12 nodes in no part
TEACHER, STUDENT = dict(type="gcn", hidden=8, epochs=3), StudentClassifier((8,), epochs=3)


def mask(ids: Tensor, dtype: torch.dtype = torch.bool) -> Tensor:
    return torch.zeros(N, dtype=dtype).index_fill(0, ids, 1)


MASKS = [mask(ids) for ids in IDS]


def graph(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"x": X, "edge_index": EDGES, "y": Y, **fields})


def masked(*masks: Any) -> dict[str, Any]:
    return dict(zip(("train_mask", "val_mask", "test_mask"), masks))


def same(split: Split) -> bool:
    found = (split.train, split.val, split.test)
    return all(torch.equal(one.sort().values, ids.sort().values) for one, ids in zip(found, IDS))


FORMS: dict[str, Any] = {
    "Split": Split(*IDS),
    "masks": tuple(MASKS),
    "masks, one tensor": torch.stack(MASKS),
    "masks of NumPy": [each.numpy() for each in MASKS],
    "masks of uint8": [mask(ids, torch.uint8) for ids in IDS],
    "masks of int64": [mask(ids, torch.int64) for ids in IDS],
    "masks (N, 1)": [each[:, None] for each in MASKS],
    "ids": IDS,
    "ids of NumPy, int32": [ids.numpy().astype(np.int32) for ids in IDS],
    "ids of uint8": [ids.to(torch.uint8) for ids in IDS],
    "lists": [ids.tolist() for ids in IDS],
    "OGB's dict": dict(zip(("train", "valid", "test"), IDS)),
    "dict of masks": dict(zip(("train", "val", "test"), MASKS)),
    "masks and ids": (MASKS[0], IDS[1].numpy(), IDS[2].tolist()),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_split_of_every_usual_form_is_the_same_split(form: str) -> None:
    assert same(as_split(FORMS[form], N))


@pytest.mark.parametrize("form", ["masks", "OGB's dict", "lists"])
def test_distill_trains_on_the_split_of_the_call_whatever_the_graph_came_with(form: str) -> None:
    own = graph(**masked(MASKS[2], MASKS[1], MASKS[0]))
    found = distill(own, TEACHER, "glnn", student=STUDENT, split=FORMS[form], setting="tran")
    expected = distill(graph(), TEACHER, "glnn", student=STUDENT, split=Split(*IDS), setting="tran")
    assert found.metrics == expected.metrics
    assert found.cache.settings["split"] == Split(*IDS).fingerprint()


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("kind", [SimpleNamespace, Data])
def test_masks_of_a_graph_are_its_split(kind: Callable[..., Any], dtype: torch.dtype) -> None:
    data = kind(**vars(graph(**masked(*(mask(ids, dtype) for ids in IDS)))))
    assert same(split_of(Graph.of(data), 0))
    result = distill(data, TEACHER, "glnn", student=STUDENT, setting="tran")
    assert result.cache.settings["split"] == Split(*IDS).fingerprint()


CARRIED: dict[str, dict[str, Any]] = {
    "split, Split": dict(split=Split(*IDS)),
    "split, dict": dict(split=dict(zip(("train", "valid", "test"), MASKS))),
    "split, tuple of ids": dict(split=tuple(IDS)),
    "split, list of masks": dict(split=MASKS),
    "split_idx": dict(split_idx=dict(zip(("train", "valid", "test"), IDS))),
    "idx": dict(zip(("train_idx", "val_idx", "test_idx"), IDS)),
    "idx, valid": dict(zip(("train_idx", "valid_idx", "test_idx"), IDS)),
    "index of NumPy": dict(zip(("train_index", "val_index", "test_index"), [ids.numpy() for ids in IDS])),
    "nodes": dict(zip(("train_nodes", "val_nodes", "test_nodes"), [ids.tolist() for ids in IDS])),
}


@pytest.mark.parametrize("kind", [SimpleNamespace, Data])
@pytest.mark.parametrize("form", CARRIED)
def test_a_split_that_a_container_carries_is_used(form: str, kind: Any) -> None:
    y, given = Y.where(mask(torch.cat(IDS)), -1), CARRIED[form]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(split_of(Graph.of(kind(**vars(graph(y=y, **given)))), 0))
    with pytest.raises(ValueError, match="the graph has a split and masks; drop one of them"):
        Graph.of(graph(**given, **masked(*MASKS)))


def test_a_split_that_a_container_carries_in_part_or_twice_is_named() -> None:
    ids = CARRIED["idx"]
    with pytest.raises(ValueError, match="the graph has train_idx, test_idx: of a split it needs each of train, val"):
        Graph.of(graph(train_idx=IDS[0], test_idx=IDS[2]))
    with pytest.raises(ValueError, match="the graph has split and train_idx, which are splits; drop all but one"):
        Graph.of(graph(split=Split(*IDS), **ids))
    assert Graph.of(graph(split="public")).split is None  # a name of PyG's


def test_observe_takes_the_same_forms() -> None:
    whole = Graph.of(graph())
    for form in ("masks", "OGB's dict", "lists"):
        view = make_setting(whole, FORMS[form], "tran", 0)
        assert torch.equal(view.train.sort().values, IDS[0].sort().values)
        assert view.mark() == Split(*IDS).fingerprint()


def test_nodes_in_no_part_are_seen_but_their_labels_are_not_read() -> None:
    rest = mask(torch.cat(IDS)).logical_not()
    noise = torch.where(rest, Y.flip(0), Y)
    bare = torch.where(rest, -1, Y)
    for split in (None, IDS):
        fields = masked(*MASKS) if split is None else {}
        results = [
            distill(graph(y=y, **fields), TEACHER, "glnn", student=STUDENT, split=split) for y in (Y, noise, bare)
        ]
        assert results[0].metrics == results[1].metrics == results[2].metrics
        assert results[0].cache.observed.all()
    view = make_setting(Graph.of(graph(**masked(*MASKS))), Split(*IDS), "ind", 0)
    assert set(rest.nonzero().flatten().tolist()) <= set(view.observed.tolist())


def test_of_masks_with_columns_one_is_chosen() -> None:
    columns = [torch.stack([other, mine, other], 1) for mine, other in zip(MASKS, MASKS[1:] + MASKS[:1])]
    data = graph(**masked(*columns))
    with pytest.raises(ValueError, match=r"hold 3 splits, one a column; choose one: split=0 to split=2"):
        distill(data, TEACHER, "glnn", student=STUDENT)
    for column in (1, np.int64(1)):
        result = distill(data, TEACHER, "glnn", student=STUDENT, split=column, setting="tran")
        assert result.cache.settings["split"] == Split(*IDS).fingerprint()
    for column in (3, -1):
        with pytest.raises(ValueError, match=f"split={column}: the graph's masks have the columns 0 to 2"):
            distill(data, TEACHER, "glnn", student=STUDENT, split=column)
    shared = graph(**masked(torch.stack([MASKS[1], MASKS[0]], 1), torch.stack([MASKS[0], MASKS[1]], 1), MASKS[2]))
    result = distill(shared, TEACHER, "glnn", student=STUDENT, split=1, setting="tran")
    assert result.cache.settings["split"] == Split(*IDS).fingerprint()  # one test mask for all, as in WikiCS
    with pytest.raises(ValueError, match=r"split=1 chooses a column of the graph's masks \(N, k\), which it has not"):
        distill(graph(), TEACHER, "glnn", student=STUDENT, split=1)


def test_a_split_stays_with_the_nodes_of_a_part_of_the_graph() -> None:
    whole = Graph.of(graph(**masked(*MASKS)))
    nodes = torch.randperm(N, generator=torch.Generator().manual_seed(2))[:50]
    left = whole.subgraph(nodes).split
    assert isinstance(left, Split)
    for ids, found in zip(IDS, (left.train, left.val, left.test)):
        assert set(nodes[found].tolist()) == set(ids.tolist()) & set(nodes.tolist())
    columns = Graph.of(graph(**masked(*(torch.stack([each, each], 1) for each in MASKS)))).subgraph(nodes)
    assert torch.equal(columns.split.column(1).test.sort().values, left.test.sort().values)  # type: ignore[union-attr]
    gone = whole.subgraph(torch.cat([IDS[0], IDS[2]]))
    with pytest.raises(ValueError, match="the split has no val nodes"):
        split_of(gone, 0)


def test_prepare_keeps_the_split_and_counts_what_it_loses() -> None:
    lone = torch.cat([IDS[0][:1], IDS[2][:2]])
    data = graph(edge_index=EDGES[:, ~torch.isin(EDGES, lone).any(0)], **masked(*MASKS))
    extra = torch.tensor([[0, 1], [1, 2]])  # joins the three rings
    data.edge_index = torch.cat([data.edge_index, extra[:, ~torch.isin(extra, lone).any(0)]], 1)
    with pytest.warns(UserWarning, match=r"dropped nodes of the split"):
        ready = prepare(data)
    split = split_of(ready, 0)
    for ids, found in zip(IDS, (split.train, split.val, split.test)):
        assert set(ready.node_id[found].tolist()) == set(ids.tolist()) & set(ready.node_id.tolist())


BAD: dict[str, tuple[Any, str]] = {
    "a table": (pd.DataFrame(dict(zip(("train", "val", "test"), MASKS))), "got a DataFrame"),
    "parts overlap": (
        (IDS[0], IDS[1], torch.cat([IDS[2], IDS[0][:1]])),
        r"the parts of the split overlap: node \d+ in train and te",
    ),
    "masks overlap": ((MASKS[0], MASKS[1], MASKS[0] | MASKS[2]), "the parts of the split overlap"),
    "mask too short": (
        (MASKS[0][:-1], *MASKS[1:]),
        rf"train part is a mask of the {N} nodes, .*; got torch.bool \(59,\)",
    ),
    "0/1 mask too short": ((mask(IDS[0], torch.uint8)[:-1], *IDS[1:]), "train part is a mask of the 60 nodes"),
    "an empty mask": ((MASKS[0], torch.zeros(N, dtype=torch.bool), MASKS[2]), "the split has no val nodes"),
    "an empty 0/1 mask": ((MASKS[0], torch.zeros(N, dtype=torch.long), MASKS[2]), "the split has no val nodes"),
    "an empty list": ((IDS[0], IDS[1], []), "the split has no test nodes"),
    "an id too large": (
        (IDS[0], torch.tensor([N]), IDS[2]),
        "val part names node 60, but the graph has the nodes 0 to 59",
    ),
    "an id below 0": ((IDS[0], np.array([-1]), IDS[2]), "val part names node -1"),
    "floats": ((IDS[0].double(), *IDS[1:]), r"train part holds node ids, which are integers, .*; got torch.float64"),
    "words": ((["a"], *IDS[1:]), "train part is a mask or a list of node ids; got a list of 1"),
    "two parts": (IDS[:2], "a split has three parts, for training, validation and test; got a tuple of 2"),
    "a dict of two": ({"train": IDS[0], "test": IDS[2]}, r"train, val \(or valid\) and test, got \['train', 'test'\]"),
    "a dict with more": (dict(train=IDS[0], val=IDS[1], test=IDS[2], valid=IDS[1]), "a dict of a split has the keys"),
    "one vector": (torch.zeros(N), r"three parts, .*; got torch.float32 \(60,\)"),
    "a word": ("public", "a split is a Split, three masks .*; got a str of 6"),
    "a bool": (True, "a split is a Split, .*; got a bool"),
    "a float": (0.6, "a split is a Split, .*; got a float"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_split_that_is_none_is_named_before_training(case: str) -> None:
    split, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        distill(graph(), TEACHER, "glnn", student=STUDENT, split=split)


def test_ones_and_zeros_that_could_be_ids_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train part is \[0, 1\]: a mask, or node ids"):
        as_split(([0, 1], [1], [0]), 2)
    assert as_split(([0, 1], [2], [3]), 4).train.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (masked(MASKS[0][:-1], *MASKS[1:]), r"train_mask is a mask of the 60 nodes, .*got torch.bool \(59,\)"),
        (masked(*IDS), r"train_mask is a mask of the 60 nodes, .*got torch.int64 \(12,\)"),
        (masked(MASKS[0], torch.arange(N), MASKS[2]), "val_mask is a mask: .*got torch.int64 with other values"),
        (masked(MASKS[0], MASKS[0], MASKS[2]), "the parts of the split overlap"),
        ({**masked(*MASKS), "valid_mask": MASKS[1]}, "the graph has val_mask and valid_mask; drop one"),
        (masked(torch.ones(N, 2), torch.ones(N, 3), MASKS[2]), "different numbers of columns"),
    ],
)
def test_masks_that_are_none_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distill(graph(**fields), TEACHER, "glnn", student=STUDENT)


def test_masks_of_a_part_ask_for_the_others() -> None:
    data = graph(train_mask=MASKS[0], test_mask=MASKS[2])
    with pytest.raises(
        ValueError, match=r"masks for train and test, but none for val: add it, or pass split=\(train, "
    ):
        distill(data, TEACHER, "glnn", student=STUDENT)
    assert (
        distill(data, TEACHER, "glnn", student=STUDENT, split=IDS).cache.settings["split"] == Split(*IDS).fingerprint()
    )


def test_a_part_without_labels_and_a_class_without_training_nodes_are_named() -> None:
    y = Y.index_fill(0, IDS[2][:1], -1)
    with pytest.raises(ValueError, match=f"node {int(IDS[2][0])} of the split's test part has no label"):
        distill(graph(y=y), TEACHER, "glnn", student=STUDENT, split=IDS)
    with pytest.raises(ValueError, match="1 labels are out of range"):
        distill(graph(y=y, **masked(*MASKS)), TEACHER, "glnn", student=STUDENT)
    few = IDS[0][Y[IDS[0]] != 1]
    with pytest.raises(
        ValueError, match=r"class 1 has no training node.*give it training nodes, or leave its nodes out"
    ):
        distill(graph(), TEACHER, "glnn", student=STUDENT, split=(few, *IDS[1:]))

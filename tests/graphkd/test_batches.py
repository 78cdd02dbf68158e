"""Batch normalisation where a batch, or what a recipe takes of it, is one row."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import RecipeContract, entry_of
from torch import nn

from graphkd import Cache, StudentClassifier
from graphkd.networks.mlp import MLP, BatchNorm
from graphkd.recipes import RECIPES
from graphkd.teachers import sage

N, CLASSES, WIDTH = 25, 4, 16
y = np.arange(N) % CLASSES
X = (np.eye(CLASSES, WIDTH)[y] + 0.3 * np.random.default_rng(0).normal(size=(N, WIDTH))).astype(np.float32)
NEXT = torch.stack([torch.arange(N), (torch.arange(N) + CLASSES) % N])
EDGES = torch.cat([NEXT, NEXT.flip(0)], 1)


@pytest.fixture(scope="module")
def cache() -> Cache:
    """A teacher with every output that a recipe needs."""
    z = (3 * np.eye(CLASSES)[y] + np.random.default_rng(1).normal(size=(N, CLASSES))).astype(np.float32)
    hidden = np.tanh(z)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = sage(WIDTH, CLASSES, hidden=8).requires_grad_(False).state_dict()
    params = {"codebook": np.eye(CLASSES, dtype=np.float32), **{key: w.numpy() for key, w in weights.items()}}
    more = {"code": hidden, "noisy": z + hidden}
    return Cache(z, np.arange(N), np.ones(N, dtype=bool), "", (hidden,), more=more, params=params)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_takes_batches_and_labels_of_one_row(cache: Cache, name: str) -> None:
    entry = entry_of(RecipeContract, name)
    method = dict(type=name, **entry.short)
    for batch_size, labelled in ((8, None), (1, None), (8, [0]), (None, [0])):
        if labelled is not None and entry.several_labels:
            labelled = list(range(8))
        student = StudentClassifier((8,), epochs=1, norm="batch", batch_size=batch_size, method=method, random_state=0)
        student.fit(X, y, teacher=cache, edge_index=EDGES, labelled=labelled)
        assert np.isfinite(student.predict_proba(X)).all()


def test_more_than_one_row_is_normalised_as_by_torch() -> None:
    ours, theirs = BatchNorm(3), nn.BatchNorm1d(3)
    for _ in range(3):
        x = torch.randn(5, 3)
        assert torch.equal(ours(x), theirs(x))
    assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values()))
    assert torch.equal(ours.eval()(x[:1]), theirs.eval()(x[:1]))


def test_one_row_is_normalised_by_what_was_seen_and_changes_none_of_it() -> None:
    norm = BatchNorm(3)
    norm(4 + 2 * torch.randn(50, 3, generator=torch.Generator().manual_seed(0)))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = torch.randn(1, 3, requires_grad=True)
    out = norm(x)
    norm(torch.randn(9, 3))  # moves the statistics before the gradient of the row is taken
    out.square().sum().backward()
    expected = (x - before["running_mean"]) / (before["running_var"] + norm.eps).sqrt()
    torch.testing.assert_close(out, expected)
    assert x.grad is not None
    assert norm.num_batches_tracked == before["num_batches_tracked"] + 1


def test_a_network_learns_from_single_rows() -> None:
    model, x = MLP(3, (4,), 2, norm="batch"), torch.randn(1, 3)
    loss = nn.functional.cross_entropy(model(x), torch.tensor([1]))
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())

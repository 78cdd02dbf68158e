from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdlosses.reduce import by_sample, centred, labelled, weighted_mean


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(0.01, 10)), min_size=1, max_size=20))
def test_weighted_mean_is_numpys_average(rows: list[tuple[float, float]]) -> None:
    values, weight = np.array(rows).T
    value = weighted_mean(torch.from_numpy(values.copy()), torch.from_numpy(weight.copy()))
    np.testing.assert_allclose(value.item(), np.average(values, weights=weight), rtol=1e-9, atol=1e-9)


def test_a_masked_nan_does_not_spread() -> None:
    values = torch.tensor([1.0, float("nan")], requires_grad=True)
    mean = weighted_mean(values, torch.tensor([True, False]))
    mean.backward()
    assert mean == 1
    assert values.grad.tolist() == [1, 0]


def test_an_unmasked_nan_is_not_hidden() -> None:
    assert weighted_mean(torch.tensor([1.0, float("nan")])).isnan()


def test_labelled_multiplies_into_a_weight() -> None:
    labels, weight = labelled(torch.tensor([0, 9, 3]), torch.tensor([2.0, 2.0, 0.5]), ignore_index=9)
    assert labels.tolist() == [0, 0, 3]
    assert weight.tolist() == [2, 0, 0.5]


def test_centred_gives_the_weighted_covariance() -> None:
    rng = np.random.default_rng(0)
    values, copies = rng.normal(size=(6, 3)), np.array([1, 2, 0, 3, 1, 1])
    x, norm, n = centred(torch.from_numpy(values), torch.from_numpy(copies), (0,))
    assert n == copies.sum()
    covariance = np.cov(values.T, fweights=copies)
    np.testing.assert_allclose((x.T @ x).numpy() / (copies.sum() - 1), covariance, rtol=1e-12)
    np.testing.assert_allclose(norm.squeeze().numpy() ** 2 / (copies.sum() - 1), np.diag(covariance), rtol=1e-12)


def test_by_sample_keeps_every_node_once() -> None:
    nodes = torch.arange(12.0).view(6, 2)
    s, _, w = by_sample(nodes, nodes, batch=torch.tensor([3, 0, 3, 3, 7, 0]))
    assert s.shape == (3, 2, 3)
    assert w.sum() == 6
    assert sorted(s.transpose(1, 2)[w > 0].tolist()) == nodes.tolist()

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.spatial.distance import cosine

from kdlosses import ifvd

CONTRACT = LossContract("ifvd", per_sample="a class has a centre in each sample")

VOID = 255


def reference(s: np.ndarray, t: np.ndarray, labels: np.ndarray, weight: np.ndarray) -> float:
    """Pixel by pixel, features `(N, C, n)`."""
    errors, counts = [], []
    for n, i in np.ndindex(labels.shape):
        if labels[n, i] == VOID or weight[n, i] == 0:
            continue
        mine = labels[n] == labels[n, i]
        cosines = [1 - cosine(f[n, :, i], np.average(f[n][:, mine], axis=1, weights=weight[n, mine])) for f in (s, t)]
        errors.append((cosines[0] - cosines[1]) ** 2)
        counts.append(weight[n, i])
    return float(np.average(errors, weights=counts))


@pytest.mark.parametrize("weighted", [False, True])
def test_formula(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 20)), rng.normal(size=(2, 5, 20))
    labels = rng.choice([0, 1, 3, VOID], (2, 20))  # no class 2
    weight = rng.integers(0, 3, (2, 20)) if weighted else np.ones((2, 20))
    tensors = [torch.from_numpy(x) for x in (s, t, labels)]
    value = ifvd(*tensors, classes=4, weight=torch.from_numpy(weight) if weighted else None).item()
    np.testing.assert_allclose(value, reference(s, t, labels, weight), rtol=1e-10)


def test_rotation_scale_and_names_of_classes_change_nothing() -> None:
    s, t = torch.randn(2, 5, 4, 6, dtype=torch.float64), torch.randn(2, 3, 4, 6, dtype=torch.float64)
    labels = torch.randint(4, (2, 4, 6))
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    value, turned = ifvd(s, t, labels, classes=4), torch.einsum("dc,nchw->ndhw", rotation, 3 * s)
    torch.testing.assert_close(ifvd(turned, 7 * t, labels, classes=4), value)
    torch.testing.assert_close(ifvd(s, t, torch.tensor([3, 0, 9, 1])[labels], classes=10), value)


def test_ignored_positions_do_not_matter() -> None:
    """A wider map whose new part is void gives the same loss, whatever the features there."""
    s, t, labels = torch.randn(2, 5, 4, 6), torch.randn(2, 3, 4, 6), torch.randint(4, (2, 4, 6))
    pad = torch.nn.functional.pad
    wide = pad(s, (0, 3), value=9.0), pad(t, (0, 3), value=-3.0), pad(labels, (0, 3), value=VOID)
    torch.testing.assert_close(ifvd(*wide, classes=4), ifvd(s, t, labels, classes=4))


def test_each_alone_in_its_class_costs_nothing() -> None:
    s, t = torch.randn(6, 3, requires_grad=True), torch.randn(6, 4)
    value = ifvd(s, t, torch.arange(6), classes=6)
    value.backward()
    assert value < 1e-12
    assert s.grad.abs().max() < 1e-6


def test_graphs_have_centres_of_their_own() -> None:
    s, t, y = torch.randn(9, 3), torch.randn(9, 4), torch.randint(2, (9,))
    graph = torch.tensor([0, 7, 0, 0, 7, 7, 0, 7, 0])
    each = torch.stack([ifvd(s[graph == g], t[graph == g], y[graph == g], classes=2) for g in (0, 7)])
    torch.testing.assert_close(ifvd(s, t, y, classes=2, batch=graph), (5 * each[0] + 4 * each[1]) / 9)


def test_classes_cost_no_memory_a_position() -> None:
    labels = torch.randint(100_000, (100_000,))  # 40 GB as one-hot vectors
    assert ifvd(torch.randn(100_000, 2), torch.randn(100_000, 2), labels, classes=100_000).isfinite()

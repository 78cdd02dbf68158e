from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax
from sklearn.metrics.pairwise import cosine_similarity

from kdlosses import trg

CONTRACT = LossContract(
    "trg",
    per_sample="its second term is a softmax over the tokens of one sample",
    no_copies="a copy would be the nearest neighbour",
    over_pairs=True,
)


def graph_term(s: np.ndarray, t: np.ndarray, k: int, tau: float) -> float:
    c_s, c_t, each = cosine_similarity(s), cosine_similarity(t), []
    for i in range(len(s)):
        others = np.delete(np.arange(len(s)), i)
        near = others[np.argsort(-c_t[i, others])[:k]]
        each.append(rel_entr(softmax(c_t[i, near] / tau), softmax(c_s[i, near] / tau)).sum())
    return np.mean(each)


def context_term(s: np.ndarray, t: np.ndarray, tau: float) -> float:
    shares = [softmax(cosine_similarity(x, x.mean(0, keepdims=True))[:, 0] / tau) for x in (s, t)]
    return rel_entr(shares[1], shares[0]).sum()


@pytest.mark.parametrize("k", [1, 4, 23, 99])
def test_formula(k: int) -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 12)), rng.normal(size=(2, 5, 12))
    rows = [x.transpose(0, 2, 1).reshape(24, -1) for x in (s, t)]
    context = np.mean([context_term(s[m].T, t[m].T, 0.5) for m in range(2)])
    pair = [torch.from_numpy(x) for x in (s, t)]
    relation = graph_term(*rows, k=k, tau=0.5)
    np.testing.assert_allclose(trg(*pair, k=k, tau=0.5, context=0.0).item(), relation, rtol=1e-9)
    np.testing.assert_allclose(trg(*pair, k=k, tau=0.5, context=2.0).item(), relation + 2 * context, rtol=1e-9)


def test_rotation_and_scale_change_nothing() -> None:
    s, t = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    torch.testing.assert_close(trg(rotation @ s, 4 * t, k=3), trg(s, t, k=3))


def test_only_the_teachers_nearest_tokens_of_any_instance_are_a_tokens_graph() -> None:
    """Two clusters in orthogonal planes; the student turns one of them against the other."""
    plane = torch.nn.functional.normalize(torch.rand(2, 6, 2, dtype=torch.float64) + 0.1, dim=2)
    t = torch.zeros(12, 4, dtype=torch.float64)
    t[::2, :2], t[1::2, 2:] = plane  # each instance has tokens of both
    s = t.clone()
    s[1::2, :2], s[1::2, 2:] = plane[1], 0.0
    batch = torch.arange(12) // 4
    assert trg(s, t, k=5, context=0.0, batch=batch) < 1e-12
    assert trg(s, t, k=6, context=0.0, batch=batch) > 0.01


def test_instances_of_one_token_have_no_context() -> None:
    s, t = torch.randn(6, 3), torch.randn(6, 3)
    alone = torch.arange(6)
    torch.testing.assert_close(trg(s, t, batch=alone), trg(s, t, context=0.0))
    assert trg(s[:1], t[:1]) == 0


def test_masked_tokens_are_nobodys_neighbours() -> None:
    s, t = torch.randn(9, 3), torch.randn(9, 3)
    keep = torch.arange(9) % 3 > 0
    torch.testing.assert_close(trg(s, t, k=3, weight=keep), trg(s[keep], t[keep], k=3))
    lonely = torch.arange(9) == 4
    s.requires_grad_()
    value = trg(s, t, k=3, weight=lonely)
    value.backward()
    assert value == 0
    assert (s.grad == 0).all()


def test_no_neighbours_raise() -> None:
    with pytest.raises(ValueError, match="k must be at least 1"):
        trg(torch.randn(4, 3), torch.randn(4, 3), k=0)

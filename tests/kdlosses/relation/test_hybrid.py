from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax
from sklearn.metrics.pairwise import cosine_similarity

from kdlosses import hybrid

CONTRACT = LossContract("hybrid", per_sample="relations between the tokens of one sample", over_pairs=True)


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 12)), rng.normal(size=(2, 5, 12))
    each = [
        rel_entr(*(softmax(cosine_similarity(x[m].T) / 0.3, axis=1) for x in (t, s))).sum(1).mean() for m in range(2)
    ]
    np.testing.assert_allclose(hybrid(*map(torch.from_numpy, (s, t)), tau=0.3).item(), np.mean(each), rtol=1e-10)


def test_rotation_and_scale_change_nothing() -> None:
    s, t = torch.randn(2, 5, 8, dtype=torch.float64), torch.randn(2, 5, 8, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    torch.testing.assert_close(hybrid(rotation @ s, 4 * t), hybrid(s, t))


def test_graphs_do_not_attend_to_each_other() -> None:
    s, t, graph = torch.randn(9, 3), torch.randn(9, 4), torch.tensor([0, 1, 0, 0, 1, 1, 0, 1, 0])
    each = torch.stack([hybrid(s[graph == g], t[graph == g]) for g in (0, 1)])
    torch.testing.assert_close(hybrid(s, t, batch=graph), (5 * each[0] + 4 * each[1]) / 9)


@pytest.mark.parametrize(("progress", "kept"), [(0.0, 10), (0.5, 8), (1.0, 6), (None, 6)])
def test_tokens_like_all_others_are_dropped(progress: float | None, kept: int) -> None:
    s, t = torch.randn(1, 3, 10, dtype=torch.float64), torch.randn(1, 5, 10, dtype=torch.float64)
    likeness = cosine_similarity(t[0].T.numpy()).mean(1)
    keep = torch.from_numpy(np.argsort(likeness)[:kept].copy())
    value = hybrid(s, t, drop=0.4, progress=progress)
    torch.testing.assert_close(value, hybrid(s[..., keep], t[..., keep]))


def test_fraction_out_of_range_raises() -> None:
    with pytest.raises(ValueError, match=r"drop must lie in \[0, 1\)"):
        hybrid(torch.randn(4, 3), torch.randn(4, 3), drop=1.0)


def test_a_draw_is_of_the_tokens_of_each_sample() -> None:
    s, t = torch.randn(3, 4, 5, 5, requires_grad=True), torch.randn(3, 6, 5, 5)
    torch.testing.assert_close(hybrid(s, t, draw=25), hybrid(s, t))
    (gradient,) = torch.autograd.grad(hybrid(s, t, draw=7), s)
    assert (gradient.abs().sum(1) > 0).sum((1, 2)).tolist() == [7, 7, 7]

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import rel_entr, softmax

from densekd.losses import attention_rows

CONTRACT = LossContract(
    "attention_rows",
    options=dict(probabilities=False),
    no_weight="a row of attention belongs to a token, and its columns to the others",
)


def test_formula() -> None:
    rng = np.random.default_rng(0)
    s, t = rng.normal(size=(2, 3, 5, 5)), 2 * rng.normal(size=(2, 4, 5, 5))
    expected = rel_entr(softmax(t[:, :3], axis=-1), softmax(s, axis=-1)).sum(-1).mean()
    scores = attention_rows(*map(torch.from_numpy, (s, t)), probabilities=False)
    rows = attention_rows(*(torch.from_numpy(softmax(x, axis=-1)) for x in (s, t)))
    np.testing.assert_allclose([scores.item(), rows.item()], [expected] * 2, rtol=1e-10)


def test_heads_are_told_apart() -> None:
    """Heads that look in different places have the same mean as their swapped copies, which costs nothing there."""
    t = torch.eye(4).expand(1, 1, 4, 4)
    t = torch.cat([t, t.flip(-1)], dim=1)
    assert torch.allclose(t.mean(1), t.flip(1).mean(1))
    assert attention_rows(t, t) == 0
    assert attention_rows(t.flip(1), t) > 10


def test_other_tokens_and_rows_that_are_no_distribution_are_named() -> None:
    with pytest.raises(ValueError, match=r"rows and columns must agree, got student \(1, 2, 3, 3\)"):
        attention_rows(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"must sum to 1; of scores .* probabilities=False"):
        attention_rows(torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3))

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from kdlosses.logit.smoothed import smoothed_cross_entropy


@pytest.mark.parametrize("confidence", [0.0, 0.25, 0.9, 1.0])
def test_is_cross_entropy_with_the_target_laid_out(confidence: float) -> None:
    rng = np.random.default_rng(0)
    log_q, y = log_softmax(rng.normal(size=(7, 4)), axis=1), rng.integers(4, size=7)
    target = np.where(np.arange(4) == y[:, None], confidence, (1 - confidence) / 3)
    value = smoothed_cross_entropy(torch.from_numpy(log_q), torch.from_numpy(y), confidence)
    np.testing.assert_allclose(value.numpy(), -(target * log_q).sum(1), rtol=1e-12)


def test_one_class_cannot_be_smoothed() -> None:
    with pytest.raises(ValueError, match="two classes"):
        smoothed_cross_entropy(torch.zeros(3, 1), torch.zeros(3, dtype=torch.long), 0.9)

"""Text for instances: the formula in NumPy over a list of distinct texts, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import logsumexp
from sklearn.preprocessing import normalize

from densekd.losses import InstanceText

CONTRACT = LossContract(
    "instance_text",
    no_fixed_point="a projection that is still to be learned stands between",
    one_channel="projected into the teacher's channels and compared by direction there",
)

TEXTS = torch.randn(5, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
WHICH = torch.tensor([0, 1, 1, 3, 1, 4, 0, 3, 3])


def made(**options: float) -> InstanceText:
    return InstanceText(student_channels=4, teacher_channels=7, **options).double()


def by_hand(loss: InstanceText, features: np.ndarray, which: np.ndarray) -> float:
    z = normalize(features @ loss.project.weight.detach().numpy().T)
    cosines, distinct = z @ normalize(TEXTS.numpy()).T, sorted(set(which))
    errors = []
    for row, own in zip(cosines, which):
        surprise = logsumexp(row[distinct] / loss.tau) - row[own] / loss.tau
        errors.append(1 - row[own] + loss.contrast * surprise)
    return float(np.mean(errors))


@pytest.mark.parametrize("options", [{}, {"contrast": 0.0}, {"contrast": 2.0, "tau": 0.5}])
def test_formula_over_distinct_texts(options: dict[str, float]) -> None:
    loss, features = made(**options), torch.randn(9, 4).double()
    lengths = torch.rand(9, 1).double() + 0.5  # of the embeddings, which do not matter
    value = loss(features, TEXTS[WHICH] * lengths).item()
    assert value == pytest.approx(by_hand(loss, features.numpy(), WHICH.numpy()))
    kept = torch.tensor([1, 1, 0, 1, 1, 0, 1, 2, 0]).double()  # text 4 is gone, one instance stands for two
    rows = torch.tensor([0, 1, 3, 4, 6, 7, 7])
    value = loss(features, TEXTS[WHICH], weight=kept).item()
    assert value == pytest.approx(by_hand(loss, features[rows].numpy(), WHICH[rows].numpy()))


def test_instances_of_equal_text_are_no_negatives() -> None:
    loss, features = made(contrast=1.0), torch.randn(6, 4).double()
    same = TEXTS[[2] * 6]
    alone = made(contrast=0.0)
    alone.load_state_dict(loss.state_dict())
    torch.testing.assert_close(loss(features, same), alone(features, same))


def test_swapped_texts_raise_the_loss_of_a_student_that_fits() -> None:
    loss, texts = made(), TEXTS[WHICH]
    features = (texts @ torch.linalg.pinv(loss.project.weight.detach()).T).requires_grad_()
    swapped = TEXTS[(WHICH + 1) % 5]
    assert loss(features, swapped) > loss(features, texts) + 1
    with pytest.raises(ValueError, match="contrast must be at least 0, got -1"):
        made(contrast=-1)

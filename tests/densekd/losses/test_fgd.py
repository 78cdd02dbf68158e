"""Focal and global distillation against loops over cells and boxes, and what each of its parts sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from contract.entry import LossContract
from scipy.special import softmax

from densekd.losses import FGD
from densekd.losses.fgd import Context, of_boxes

CONTRACT = LossContract("fgd", no_weight="boxes say what counts, and how much")

BOXES = [torch.tensor([[0.3, 0.6, 2.2, 2.9], [1.0, 1.0, 5.2, 4.4]]), torch.zeros(0, 4)]


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(2, 5, 6, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


def attention(f: np.ndarray, tau: float) -> tuple[np.ndarray, np.ndarray]:
    c, h, w = f.shape
    return h * w * softmax(np.abs(f).mean(0) / tau), c * softmax(np.abs(f).mean((1, 2)) / tau)


def related(f: np.ndarray, block: Context) -> np.ndarray:
    weights = {key: value.detach().numpy() for key, value in block.state_dict().items()}
    share = softmax(np.einsum("c,chw->hw", weights["attend.weight"][0], f) + weights["attend.bias"])
    pooled = (f * share).sum((1, 2))
    hidden = weights["change.0.weight"] @ pooled + weights["change.0.bias"]
    hidden = (hidden - hidden.mean()) / np.sqrt(hidden.var() + 1e-5)
    hidden = np.maximum(hidden * weights["change.1.weight"] + weights["change.1.bias"], 0)
    return f + (weights["change.3.weight"] @ hidden + weights["change.3.bias"])[:, None, None]


def test_formula() -> None:
    weights = dict(alpha=0.3, beta=0.2, gamma=0.05, lam=0.01)
    torch.manual_seed(0)
    loss = FGD(channels=5, tau=0.7, **weights).double()
    for part in (loss.of_student, loss.of_teacher):  # as if trained
        torch.nn.init.normal_(part.change[3].weight)
    s, t = pair()
    found = 0.0
    for f_s, f_t, boxes in zip(s.numpy(), t.numpy(), BOXES):
        (where, which), (where_s, which_s) = attention(f_t, 0.7), attention(f_s, 0.7)
        mask = np.zeros((6, 8))
        for x1, y1, x2, y2 in boxes.tolist():
            rows = range(int(np.floor(y1)), int(np.ceil(y2)) + 1)
            columns = range(int(np.floor(x1)), int(np.ceil(x2)) + 1)
            for y in rows:
                for x in columns:
                    mask[y, x] = max(mask[y, x], 1 / len(rows) / len(columns))
        outside = (mask == 0) / (mask == 0).sum()
        error = (f_s - f_t) ** 2 * which[:, None, None] * where
        found += weights["alpha"] * (error * mask).sum() + weights["beta"] * (error * outside).sum()
        found += weights["gamma"] * (np.abs(where_s - where).sum() + np.abs(which_s - which).sum())
        found += weights["lam"] * ((related(f_s, loss.of_student) - related(f_t, loss.of_teacher)) ** 2).sum()
    np.testing.assert_allclose(loss(s, t, boxes=BOXES).item(), found / 2, rtol=1e-9)


def test_a_small_object_counts_as_much_as_a_large_one() -> None:
    """The idea of the scale: each box is one mean, and the background is one. Without it area decides."""
    loss = FGD(channels=5, beta=0.0, gamma=0.0, lam=0.0).double()
    t = torch.ones(1, 5, 20, 20, dtype=torch.float64)
    small, large = torch.tensor([[2.0, 2.0, 3.0, 3.0]]), torch.tensor([[6.0, 6.0, 17.0, 17.0]])
    values = [loss(t + 1, t, boxes=[box]) for box in (small, large)]
    torch.testing.assert_close(*values)
    both = loss(t + 1, t, boxes=[torch.cat([small, large])])
    torch.testing.assert_close(both, sum(values))


def test_objects_and_background_are_weighed_apart() -> None:
    t = torch.ones(1, 5, 12, 12, dtype=torch.float64)
    box = torch.tensor([[3.0, 3.0, 5.0, 5.0]])
    inside = of_boxes(box, (12, 12)).gt(0)
    for weights, where in ((dict(alpha=1.0, beta=0.0), inside), (dict(alpha=0.0, beta=1.0), ~inside)):
        loss = FGD(channels=5, gamma=0.0, lam=0.0, **weights).double()
        s = (t + 1).requires_grad_()
        loss(s, t, boxes=[box]).backward()
        assert ((s.grad[0].abs().sum(0) > 0) == where).all()


def test_errors_count_where_the_teacher_attends() -> None:
    t = torch.zeros(1, 5, 4, 4, dtype=torch.float64)
    t[:, 0, 1, 2] = 20.0
    loss = FGD(channels=5, gamma=0.0, lam=0.0).double()
    for channel, y, x in ((1, 1, 2), (0, 3, 3)):  # the same position, or the same channel
        near, far = t.clone(), t.clone()
        near[0, channel, y, x] += 0.1
        far[0, 3, 0, 0] += 0.1
        assert loss(near, t, boxes=BOXES[1:]) > 1.5 * loss(far, t, boxes=BOXES[1:])


def test_relations_see_what_is_pooled_from_the_whole_map() -> None:
    """With trained blocks the error at one position depends on the features at another."""
    torch.manual_seed(0)
    loss = FGD(channels=5, alpha=0.0, beta=0.0, gamma=0.0, lam=1.0).double()
    s, t = pair()
    loss.of_teacher.change[3].weight.data.normal_()
    other = t.clone()
    other[:, :, 5, 7] += 3.0
    changed = (loss.of_teacher(other) - loss.of_teacher(t))[:, :, 0, 0]
    assert changed.abs().min() > 0
    assert loss(s, other, boxes=BOXES) != loss(s, t, boxes=BOXES)


def test_cells_beyond_the_map_do_not_count() -> None:
    mask = of_boxes(torch.tensor([[-2.0, -2.0, 1.0, 1.0]]), (4, 4))
    assert mask.count_nonzero() == 4
    assert mask.max() == pytest.approx(1 / 16)
    wrong = torch.tensor([[3.0, 3.0, 2.0, 1.0]])  # its corners are in the wrong order
    assert of_boxes(wrong, (4, 4)).eq(0).all()

"""What the contract asks of every loss, asked of the policies for several teachers with three of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor

import kdlosses
from kdlosses.experts import experts, mixture

OPTIONS = {
    "adversary": dict(classes=4),
    "average": dict(weights=[1, 2, 3]),
    "knfu": dict(nearest=1),
    "mst_distill": dict(classes=4, teachers=3, k=2),
    "mtard": dict(teachers=3),
    "mulki": dict(),
    "partition": dict(),
}
every_policy = pytest.mark.parametrize("key", OPTIONS)


def built(key: str) -> kdlosses.Loss:
    torch.manual_seed(0)
    return kdlosses.build(dict(type=key, **OPTIONS[key]))


def three(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    n, classes, *rest = shape
    student = torch.randn(shape, generator=generator)
    teacher = 2 * torch.randn(n, 3 * classes, *rest, generator=generator)
    return student, teacher, torch.randint(-1, classes, (n, *rest), generator=generator)


@every_policy
def test_masked_positions_cannot_matter(key: str) -> None:
    s, t, labels = three(20, 4)
    weight = (torch.arange(20) % 3 > 0).float()
    value = built(key)(s, t, labels=labels, weight=weight)
    masked = (weight == 0).unsqueeze(1)
    s2, t2 = s.masked_fill(masked, torch.nan), t.masked_fill(masked, 50.0)
    torch.testing.assert_close(built(key)(s2, t2, labels=labels, weight=weight), value)
    kept = weight > 0
    torch.testing.assert_close(built(key)(s[kept], t[kept], labels=labels[kept]), value)


@every_policy
def test_weight_two_is_two_copies(key: str) -> None:
    s, t, labels = three(12, 4)
    copies = torch.arange(12) % 3
    s2, t2, labels2 = (x.repeat_interleave(copies, 0) for x in (s, t, labels))
    torch.testing.assert_close(
        built(key)(s, t, labels=labels, weight=copies.float()), built(key)(s2, t2, labels=labels2)
    )


@every_policy
def test_a_node_is_a_pixel_with_no_height_and_width(key: str) -> None:
    s, t, labels = three(2, 4, 3, 5)
    on_nodes = built(key)(*(x.movedim(1, -1).flatten(0, -2) for x in (s, t)), labels=labels.flatten())
    torch.testing.assert_close(built(key)(s, t, labels=labels), on_nodes)


@every_policy
def test_teachers_that_are_the_student_leave_it_where_it_is(key: str) -> None:
    s, _, labels = three(12, 4)
    s.requires_grad_()
    built(key)(s, s.detach().repeat(1, 3), labels=labels).backward()
    moves = ("adversary", "mst_distill")  # the second one's masks specialise the teachers
    assert (s.grad.abs().max() < 1e-6) == (key not in moves)


@every_policy
def test_it_compiles_without_a_graph_break(key: str) -> None:
    torch._dynamo.reset()
    s, t, labels = three(12, 4)
    compiled = torch.compile(built(key), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(s, t, labels=labels), built(key)(s, t, labels=labels))


def test_a_mixture_is_a_weighted_mean_of_softmaxes() -> None:
    logits = 3 * torch.randn(6, 2, 4, dtype=torch.float64)
    p = softmax(logits.numpy(), axis=2)
    np.testing.assert_allclose(mixture(logits).exp().numpy(), p.mean(1))
    one = torch.tensor([0.2, 0.8])
    np.testing.assert_allclose(mixture(logits, one).exp().numpy(), 0.2 * p[:, 0] + 0.8 * p[:, 1], rtol=1e-6)
    each = torch.rand(6, 2, dtype=torch.float64)
    each = each / each.sum(1, keepdim=True)
    np.testing.assert_allclose(mixture(logits, each).exp().numpy(), (p * each.numpy()[:, :, None]).sum(1))


def test_channels_that_are_no_teachers_are_named() -> None:
    with pytest.raises(ValueError, match="knfu: the teachers' 7 channels must be a multiple of the student's 3"):
        experts(torch.zeros(2, 7), 3, "knfu")

"""Cross selective fusion and the global-local mixer against NumPy, and what must hold of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from densekd.align.csf import CSF
from densekd.align.gl_mixer import GLMixer
from densekd.mmlab.samples import Context
from densekd.term import Term

SHAPES = {"student": [(6, 10, 14), (7, 5, 7), (8, 3, 4)], "teacher": [(9, 10, 14), (11, 5, 7), (10, 3, 4)]}


def levels(side: str, n: int = 3, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, *shape, generator=generator) for shape in SHAPES[side]]


def fusion(width: int = 12) -> CSF:
    torch.manual_seed(0)
    csf = CSF(levels("student"), levels("teacher"), width)
    for parameter in csf.parameters():  # norms, too, do something
        nn.init.normal_(parameter, std=0.5)
    return csf


def batch_normalised(x: np.ndarray, norm: nn.BatchNorm2d) -> np.ndarray:
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    weight, bias = (p.detach().numpy()[:, None, None] for p in (norm.weight, norm.bias))
    return (x - mean) / np.sqrt(variance + 1e-5) * weight + bias


def convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    size = kernel.shape[2]
    padded = np.pad(x, [(0, 0), (0, 0), (size // 2,) * 2, (size // 2,) * 2])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(2, 3))
    return np.einsum("bchwij,ocij->bohw", windows, kernel)


def by_hand(csf: CSF, student: list[Tensor]) -> list[np.ndarray]:
    """Level by level from the coarsest, with the statistics of the batch."""
    csf = csf.double()
    coarser, outputs = None, []
    for part, level in zip(list(csf)[::-1], student[::-1]):
        x = convolved(level.double().numpy(), part.enter[0].weight.detach().numpy())
        x = batch_normalised(x, part.enter[1])
        if coarser is not None:
            (h, w), (H, W) = coarser.shape[2:], x.shape[2:]
            y = coarser[:, :, np.arange(H) * h // H][..., np.arange(W) * w // W]
            reduce, norm, _, expand = part.select
            hidden = (x + y).mean((2, 3)) @ reduce.weight.detach().numpy().T
            hidden = (hidden - hidden.mean(1, keepdims=True)) / np.sqrt(hidden.var(1, keepdims=True) + 1e-5)
            hidden = np.maximum(hidden * norm.weight.detach().numpy() + norm.bias.detach().numpy(), 0)
            scores = hidden @ expand.weight.detach().numpy().T + expand.bias.detach().numpy()
            mine, theirs = np.exp(np.split(scores, 2, axis=1))
            share = (mine / (mine + theirs))[..., None, None]
            x = share * x + (1 - share) * y
        coarser = x
        outputs.insert(0, batch_normalised(convolved(x, part.leave[0].weight.detach().numpy()), part.leave[1]))
    return outputs


def test_fusion_is_the_formula() -> None:
    csf, student, teacher = fusion(), levels("student"), levels("teacher", seed=1)
    pairs = csf(student, teacher)
    for (mapped, target), expected, t in zip(pairs, by_hand(csf, student), teacher):
        assert target is t
        assert mapped.shape == t.shape
        assert np.allclose(mapped.detach().numpy(), expected, atol=1e-4)


def test_shares_of_a_channel_sum_to_one_and_differ_between_channels_and_images() -> None:
    shares = fusion()[0].shares(torch.randn(3, 12, 10, 14))
    assert shares.shape == (3, 2, 12)
    assert torch.allclose(shares.sum(1), torch.ones(3, 12))
    assert shares[:, 0].std(0).min() > 0
    assert shares[:, 0].std(1).min() > 0.01


def test_what_is_coarser_reaches_what_is_finer_and_not_the_other_way() -> None:
    csf, student = fusion(), [level.requires_grad_() for level in levels("student")]
    pairs = csf(student, levels("teacher"))
    for i, (mapped, _) in enumerate(pairs):
        gradients = torch.autograd.grad(mapped.square().sum(), student, retain_graph=True, allow_unused=True)
        assert [gradient is not None for gradient in gradients] == [j >= i for j in range(3)]


def test_an_image_alone_is_treated_as_in_a_batch() -> None:
    csf, student, teacher = fusion().eval(), levels("student"), levels("teacher")
    together = csf(student, teacher)
    alone = csf([level[1:2] for level in student], [level[1:2] for level in teacher])
    for (a, _), (b, _) in zip(together, alone):
        assert torch.allclose(a[1:2], b, atol=1e-5)
    assert all(
        torch.isfinite(mapped).all() for mapped, _ in fusion()([s[:1] for s in student], [t[:1] for t in teacher])
    )


def test_levels_of_another_stride_are_resized() -> None:
    student, teacher = levels("student"), [torch.zeros(3, 4, 8, 8), torch.zeros(3, 5, 8, 8), torch.zeros(3, 6, 2, 2)]
    assert [s.shape for s, _ in CSF(student, teacher)(student, teacher)] == [t.shape for t in teacher]


def test_a_teacher_that_says_what_the_fusion_says_teaches_nothing() -> None:
    term, student, image = Term("hcl", "backbone", adapt="csf"), levels("student"), (40, 56)
    term.fit(student, [levels("teacher")], image)
    term.eval()
    said = [mapped.detach() for mapped, _ in term.adapt(student, levels("teacher"), image)]
    assert term(student, [said], Context((), image)) == 0
    assert term(student, [[2 * level for level in said]], Context((), image)) > 0


def test_the_first_look_leaves_no_trace() -> None:
    term = Term("hcl", "backbone", adapt="csf")
    term.fit(levels("student", n=1), [levels("teacher", n=1)], (40, 56))
    norms = [part for part in term.modules() if isinstance(part, nn.BatchNorm2d)]
    assert len(norms) == 6
    assert all(norm.training and norm.num_batches_tracked == 0 for norm in norms)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in term.parameters())


@pytest.mark.parametrize(
    ("student", "message"),
    [
        ([torch.zeros(1, 4, 8, 8)], "fuses levels, but the tap yields one; tap 'backbone' for all"),
        ([torch.zeros(1, 64, 8)] * 2, r"'csf' fuses maps \(B, C, h, w\), the student's tap yields \(1, 64, 8\), \(1"),
        ([torch.zeros(1, 4, 8, 8)] * 3, "yields 3 tensors, the teacher's 2"),
    ],
)
def test_what_cannot_be_fused(student: list[Tensor], message: str) -> None:
    teacher = [torch.zeros(1, 4, 8, 8)] * min(len(student), 2)
    with pytest.raises(ValueError, match=message):
        Term("hcl", "backbone", adapt="csf").fit(student, [teacher], (64, 64))


def test_mixer_is_the_formula() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 5, 12, dtype=torch.float64)
    mixer = GLMixer(tokens).double()
    nn.init.normal_(mixer.attention.in_proj_bias)
    nn.init.constant_(mixer.shares, 0.5)
    weight = {name: value.detach().numpy() for name, value in mixer.named_parameters()}
    x = tokens.numpy()
    q, k, v = np.split(x @ weight["attention.in_proj_weight"].T + weight["attention.in_proj_bias"], 3, axis=2)
    heads = []
    for a, b, c in zip(*(np.split(each, 4, axis=2) for each in (q, k, v))):  # 4 is the most up to 8 that divides 12
        scores = np.exp(a @ b.transpose(0, 2, 1) / np.sqrt(3))
        heads.append(scores / scores.sum(2, keepdims=True) @ c)
    everywhere = np.concatenate(heads, 2) @ weight["attention.out_proj.weight"].T + weight["attention.out_proj.bias"]
    row = np.pad(x, [(0, 0), (1, 1), (0, 0)])
    value, gate = (
        sum(row[:, i : i + 5] @ weight[f"{name}.weight"][..., i].T for i in range(3)) + weight[f"{name}.bias"]
        for name in ("value", "gate")
    )
    expected = 0.5 * everywhere + 0.5 * value / (1 + np.exp(-gate))
    assert np.allclose(mixer(tokens).detach().numpy(), expected, atol=1e-10)


def test_a_mixer_wants_tokens() -> None:
    with pytest.raises(ValueError, match=r"mixes tokens \(B, N, C\), the student's tap yields \(1, 4, 8, 8\)"):
        Term("mse", "neck", adapt="gl_mixer").fit([torch.zeros(1, 4, 8, 8)], [[torch.zeros(1, 4, 8, 8)]], (64, 64))

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from densekd.align.adapt import ADAPT, Adapt, adapts, as_map

IMAGE = (64, 128)


def test_equal_taps_pass_through_untouched() -> None:
    s, t = torch.rand(2, 8, 4, 8), torch.rand(2, 8, 4, 8)
    adapt = Adapt(s, t, IMAGE)
    a, b = adapt(s, t, IMAGE)
    assert a is s
    assert b is t
    assert not list(adapt.parameters())


def test_channels_are_projected_by_a_learned_convolution() -> None:
    s, t = torch.rand(2, 3, 4, 8), torch.rand(2, 5, 4, 8)
    adapt = Adapt(s, t, IMAGE)
    a, _ = adapt(s, t, IMAGE)
    weight, bias = adapt.project.weight, adapt.project.bias
    assert torch.allclose(a, torch.einsum("oi,bihw->bohw", weight[:, :, 0, 0], s) + bias[:, None, None], atol=1e-6)
    assert weight.requires_grad


def test_student_is_resized_to_the_teacher() -> None:
    s, t = torch.rand(2, 3, 4, 8), torch.rand(2, 3, 8, 16)
    a, b = Adapt(s, t, IMAGE)(s, t, IMAGE)
    assert torch.equal(a, F.interpolate(s, scale_factor=2, mode="bilinear", align_corners=False))
    assert b is t


def test_tokens_of_equal_number_get_their_channels_in_front() -> None:
    s, t = torch.rand(2, 50, 3), torch.rand(2, 50, 5)
    a, b = Adapt(s, t, IMAGE)(s, t, IMAGE)
    assert a.shape == b.shape == (2, 5, 50)


def test_tokens_meet_a_map() -> None:
    t = torch.rand(2, 3, 8, 16)
    s = torch.cat([torch.zeros(2, 1, 3), t.flatten(2).transpose(1, 2)], 1)  # class token in front
    a, _ = Adapt(s, t, IMAGE)(s, t, IMAGE)
    assert torch.equal(a, t)


def test_tokens_of_unlike_number_meet_as_maps() -> None:
    s, t = torch.rand(2, 4 * 8, 3), torch.rand(2, 1 + 8 * 16, 5)
    a, b = Adapt(s, t, IMAGE)(s, t, IMAGE)
    assert a.shape == b.shape == (2, 5, 8, 16)
    assert torch.equal(b.flatten(2).transpose(1, 2), t[:, 1:])


def test_rows_are_projected_too() -> None:
    a, b = Adapt(torch.rand(7, 3), torch.rand(7, 4), IMAGE)(torch.rand(9, 3), torch.rand(9, 4), IMAGE)
    assert a.shape == b.shape == (9, 4)


@pytest.mark.parametrize(("h", "w"), [(8, 16), (7, 9), (1, 1), (13, 40), (30, 3)])
def test_as_map_finds_the_grid(h: int, w: int) -> None:
    x = torch.rand(1, 2, h, w)
    tokens = x.flatten(2).transpose(1, 2)
    assert torch.equal(as_map(tokens, (16 * h, 16 * w)), x)


def test_as_map_refuses_what_is_no_grid() -> None:
    with pytest.raises(ValueError, match="47 tokens do not fill a grid with the aspect of a 64x128 image"):
        as_map(torch.rand(1, 47, 2), IMAGE)


@pytest.mark.parametrize(
    ("student", "teacher", "match", "how"),
    [
        ((1, 3, 4, 4), (1, 5, 4, 4), "shape", "none"),
        ((1, 3, 4, 4), (1, 5, 4, 4), "shape", "resize"),
        ((1, 3, 4, 4), (1, 3, 8, 8), "shape", "none"),
        ((1, 3, 4, 4), (1, 3), "shape", "auto"),
        ((1, 3, 4, 4), (1, 3, 4, 4, 4), "positions", "auto"),
        ((7, 3), (8, 3), "shape", "auto"),
    ],
)
def test_what_cannot_be_aligned(student: tuple[int, ...], teacher: tuple[int, ...], match: str, how: str) -> None:
    with pytest.raises(ValueError, match="cannot be aligned"):
        Adapt(torch.zeros(student), torch.zeros(teacher), IMAGE, match, how)


@pytest.mark.parametrize(
    ("student", "teacher", "match"),
    [((1, 3, 4, 4), (1, 5, 4, 4), "positions"), ((1, 3, 4, 4), (1, 5, 9), "samples")],
)
def test_a_loss_that_asks_for_less_gets_no_connector(student, teacher, match) -> None:
    assert not list(Adapt(torch.zeros(student), torch.zeros(teacher), IMAGE, match).parameters())


def test_levels_must_be_as_many() -> None:
    one = [torch.zeros(1, 3, 4, 4)]
    with pytest.raises(ValueError, match="yields 1 tensors, the teacher's 2"):
        adapts(one, one * 2, IMAGE, "shape", "auto")
    assert len(adapts(one * 2, one * 2, IMAGE, "shape", "auto")) == 2


def test_every_way_has_a_name() -> None:
    for how in ADAPT:
        student = teacher = [torch.zeros(1, 32, 4) if how == "gl_mixer" else torch.zeros(1, 4, 4, 8)] * 2
        if how == "ea":
            student, teacher = [torch.zeros(1, 32, 4), torch.zeros(1, 3, 8, 16)], [torch.zeros(1, 32, 6)]
        aligned = adapts(student, teacher, IMAGE, "shape", how)
        assert bool(list(aligned.parameters())) == (how in ("conv1x1", "gl_mixer", "ea", "csf"))
        pairs = aligned(student, teacher, IMAGE)
        assert [s.shape == t.shape for s, t in pairs] == [True] * (1 if how in ("cat", "ea") else 2)


def test_all_levels_as_one_map() -> None:
    student, teacher = [torch.rand(2, c, 4, 4) for c in (1, 2)], [torch.rand(2, c, 8, 8) for c in (2, 1)]
    ((s, t),) = adapts(student, teacher, IMAGE, "shape", "cat")(student, teacher, IMAGE)
    assert torch.equal(t, torch.cat(teacher, 1))
    assert s.shape == t.shape
    with pytest.raises(ValueError, match="maps of one size"):
        adapts([student[0], teacher[0]], teacher, IMAGE, "shape", "cat")

"""Align the student's tap with the teacher's: channels, size, tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from densekd.align.csf import CSF
from densekd.align.embedding_assistant import EmbeddingAssistant
from densekd.align.gl_mixer import GLMixer

ADAPT = ("auto", "none", "conv1x1", "resize", "tokens", "gl_mixer", "ea", "csf", "cat")
"""Ways to align two taps. `auto` does what is needed; `none` does nothing; `conv1x1` always adds a 1x1 convolution, and
what else is needed; `resize` only resizes; `tokens` only reads tokens as maps, and resizes; `gl_mixer` mixes the
student's tokens by a `GLMixer`, then does as `conv1x1`; `ea` does as `conv1x1` for a patch embedding and mixes in an
assistant, see `densekd.align.embedding_assistant`; `csf` fuses all levels by a `CSF`; `cat` concatenates all levels, of
one size, along the channels."""

Size = tuple[int, int]
_CONVOLUTION = {2: nn.Linear, 3: nn.Conv1d, 4: nn.Conv2d, 5: nn.Conv3d}


class Adapt(nn.Module):
    """Align one pair of taps. Built before the optimiser, from the shapes that a probe of both models yields.

    In this order, as far as needed and as `how` allows:

    - tokens of the student are mixed, by a learned `GLMixer`, where `how` is 'gl_mixer';
    - tokens `(B, N, C)`, as a transformer block yields them, become `(B, C, N)` where both sides have N of them, else
      a map `(B, C, h, w)` with the aspect of the image, a class token in front dropped;
    - the student's channels are projected to the teacher's by a learned 1x1 convolution;
    - the student is resized bilinearly to the teacher's size.

    Args:
        student: what the student's tap yields, any batch size.
        teacher: what the teacher's tap yields.
        image_size: height and width of the image that both come from.
        match: which axes must agree for the loss: 'shape', 'positions' (all but the channels), 'channels' (axes 0, 1)
            or 'samples' (axis 0).
        how: one of `ADAPT`.

    Raises:
        ValueError: the two cannot be aligned, or not with this `how`.

    >>> import torch
    >>> adapt = Adapt(torch.zeros(1, 64, 8, 8), torch.zeros(1, 256, 16, 16), image_size=(128, 128))
    >>> student, teacher = adapt(torch.zeros(2, 64, 8, 8), torch.zeros(2, 256, 16, 16), (128, 128))
    >>> student.shape
    torch.Size([2, 256, 16, 16])
    >>> Adapt(torch.zeros(1, 64, 8, 8), torch.zeros(1, 64, 8, 8), image_size=(128, 128)).project is None
    True
    """

    def __init__(
        self, student: Tensor, teacher: Tensor, image_size: Size | None, match: str = "shape", how: str = "auto"
    ) -> None:
        super().__init__()
        self.match, self.how = match, how
        self.project: nn.Module | None = None
        self.mix = GLMixer(student) if how == "gl_mixer" else None
        student, teacher = self._lay_out(student, teacher, image_size)
        if how in ("conv1x1", "gl_mixer") or (
            how == "auto" and match in ("shape", "channels") and student.shape[1] != teacher.shape[1]
        ):
            if student.ndim not in _CONVOLUTION:
                raise ValueError(f"a 1x1 convolution cannot follow a tensor of shape {tuple(student.shape)}")
            size = {} if student.ndim == 2 else {"kernel_size": 1}
            self.project = _CONVOLUTION[student.ndim](student.shape[1], teacher.shape[1], **size)
        self._check(student, teacher)

    def forward(self, student: Tensor, teacher: Tensor, image_size: Size | None) -> tuple[Tensor, Tensor]:
        if self.mix is not None:
            student = self.mix(student)
        student, teacher = self._lay_out(student, teacher, image_size)
        if self.project is not None:
            student = self.project(student)
        if self._resizes and student.ndim == teacher.ndim == 4:
            student = _resized(student, teacher.shape[2:])
        return student, teacher

    @property
    def _resizes(self) -> bool:
        return self.match not in ("samples", "channels") and self.how != "none"

    def _lay_out(self, student: Tensor, teacher: Tensor, image_size: Size | None) -> tuple[Tensor, Tensor]:
        if self.how not in ("auto", "conv1x1", "tokens", "gl_mixer"):
            return student, teacher
        return lay_out(student, teacher, image_size)

    def _check(self, student: Tensor, teacher: Tensor) -> None:
        a, b = list(student.shape), list(teacher.shape)
        if self.project is not None or self.match not in ("shape", "channels"):
            a[1] = b[1]
        if self.match in ("samples", "channels") or (self._resizes and student.ndim == teacher.ndim == 4):
            a, b = a[:2], b[:2]
        if a != b:
            raise ValueError(
                f"student {tuple(student.shape)} and teacher {tuple(teacher.shape)} cannot be aligned"
                + ("" if self.how == "auto" else f" by adapt={self.how!r}")
            )


def lay_out(student: Tensor, teacher: Tensor, image_size: Size | None) -> tuple[Tensor, Tensor]:
    """Put the channels of tokens `(B, N, C)` on axis 1: as `(B, C, N)` where both sides have N, else as maps."""
    if 3 not in (student.ndim, teacher.ndim):
        return student, teacher
    if student.ndim == teacher.ndim and student.shape[1] == teacher.shape[1]:
        return student.transpose(1, 2), teacher.transpose(1, 2)
    if {student.ndim, teacher.ndim} <= {3, 4} and image_size is not None:
        return as_map(student, image_size), as_map(teacher, image_size)
    return student, teacher


REGISTERS = 8
"""Tokens in front of those of the patches, at most: a class token and registers."""


def as_map(tokens: Tensor, image_size: Size, patch: Size | None = None) -> Tensor:
    """Reshape tokens `(B, N, C)` to a map `(B, C, h, w)`; a map is returned unchanged.

    The last h w tokens are the map, those in front of them, a class token and registers, are dropped. With the size of
    a patch h and w are those of the image divided by it. Without, the grid has the aspect of the image: of N tokens,
    else N - 1; where neither is such a grid, of the most tokens that have that aspect exactly.

    Args:
        tokens: of a transformer.
        image_size: height and width of the image.
        patch: height and width of a patch, where it is known.

    Raises:
        ValueError: no number of tokens from N - 8 to N is such a grid.

    >>> import torch
    >>> as_map(torch.zeros(2, 1 + 8 * 16, 32), image_size=(128, 256)).shape
    torch.Size([2, 32, 8, 16])
    >>> as_map(torch.zeros(2, 5 + 4 * 4, 32), image_size=(56, 56), patch=(14, 14)).shape
    torch.Size([2, 32, 4, 4])
    """
    if tokens.ndim == 4:
        return tokens
    count, (height, width) = tokens.shape[1], image_size
    if patch is not None:
        grid = height // patch[0], width // patch[1]
        n = grid[0] * grid[1]
        if 0 < n <= count <= n + REGISTERS:
            return tokens[:, count - n :].transpose(1, 2).unflatten(2, grid)
    for n in range(count, max(count - REGISTERS, 1) - 1, -1):
        h = round((n * height / width) ** 0.5)
        off = 0 if n < count - 1 else max(height, width)
        if h and n % h == 0 and abs(n // h * height - h * width) <= off:
            return tokens[:, count - n :].transpose(1, 2).unflatten(2, (h, n // h))
    raise ValueError(f"{count} tokens do not fill a grid with the aspect of a {height}x{width} image")


class EachLevel(nn.ModuleList):
    """Align each level on its own."""

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], image_size: Size | None
    ) -> list[tuple[Tensor, Tensor]]:
        return [adapt(s, t, image_size) for adapt, s, t in zip(self, student, teacher)]


class AsOne(EachLevel):
    """Concatenate the levels of each side, however many, along the channels; align the two maps as `auto` does."""

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], image_size: Size | None
    ) -> list[tuple[Tensor, Tensor]]:
        return super().forward([_stacked(student)], [_stacked(teacher)], image_size)


class Assisted(nn.Module):
    """Project a patch embedding of the student as `conv1x1` does, and mix in an `EmbeddingAssistant` of its input."""

    def __init__(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], image_size: Size | None, match: str
    ) -> None:
        if len(student) != 2 or len(teacher) != 1 or image_size is None:
            raise ValueError(
                "adapt='ea' needs a patch embedding of the student and its input, student='path:0+path:in', and one of "
                f"the teacher; the taps yield {len(student)} and {len(teacher)} tensors"
            )
        super().__init__()
        self.align = Adapt(student[0], teacher[0], image_size, match, "conv1x1")
        width = teacher[0].shape[2 if teacher[0].ndim == 3 else 1]
        self.assistant = EmbeddingAssistant(student[0], student[1], width, image_size)

    def forward(
        self, student: Sequence[Tensor], teacher: Sequence[Tensor], image_size: Size | None
    ) -> list[tuple[Tensor, Tensor]]:
        projected, guide = self.align(student[0], teacher[0], image_size)
        return [(self.assistant(projected, student[1]), guide)]


def _stacked(levels: Sequence[Tensor]) -> Tensor:
    sizes = {level.shape[2:] for level in levels}
    if len(sizes) > 1:
        raise ValueError(f"adapt='cat' concatenates maps of one size, these have {sorted(map(tuple, sizes))}")
    return torch.cat(list(levels), 1)


def adapts(
    student: Sequence[Tensor], teacher: Sequence[Tensor], image_size: Size | None, match: str, how: str
) -> EachLevel | Assisted | CSF:
    """Build the module that aligns two taps: called with all levels of both, it returns a pair for each level.

    Raises:
        ValueError: the taps yield different numbers of levels, or tensors that `how` cannot align.
    """
    if how == "cat":
        return AsOne([Adapt(_stacked(student), _stacked(teacher), image_size, match)])
    if how == "ea":
        return Assisted(student, teacher, image_size, match)
    if len(student) != len(teacher):
        raise ValueError(f"the student's tap yields {len(student)} tensors, the teacher's {len(teacher)}")
    if how == "csf":
        return CSF(student, teacher)
    return EachLevel(Adapt(s, t, image_size, match, how) for s, t in zip(student, teacher))


def join(
    student: Sequence[Tensor], teachers: Sequence[Sequence[Tensor]], image_size: Size | None, how: str
) -> Sequence[Tensor]:
    """Concatenate several teachers along the channels, level by level.

    Maps are resized bilinearly to the student's size, and tokens read as maps, as far as `how` allows.

    Args:
        student: levels of the student's tap.
        teachers: for each teacher the levels of its tap; a single one is returned unchanged.
        image_size: height and width of the image, None where there is none.
        how: one of `ADAPT`.

    Raises:
        ValueError: the teachers differ in levels, in channels, or in sizes that `how` does not change.

    >>> one, other = torch.zeros(2, 11, 8, 8), torch.ones(2, 11, 16, 16)
    >>> join([torch.zeros(2, 11, 4, 4)], [[one], [other]], image_size=(64, 64), how="auto")[0].shape
    torch.Size([2, 22, 4, 4])
    """
    if len(teachers) == 1:
        return teachers[0]
    counts = [len(levels) for levels in teachers]
    if len({*counts, len(student)}) > 1:
        raise ValueError(f"the student's tap yields {len(student)} tensors, the teachers' {counts}")
    return [_join(s, level, image_size, how) for s, level in zip(student, zip(*teachers))]


def _join(student: Tensor, teachers: Sequence[Tensor], image_size: Size | None, how: str) -> Tensor:
    shapes = [tuple(each.shape) for each in (student, *teachers)]
    if (
        how in ("auto", "tokens")
        and image_size is not None
        and 3 in map(len, shapes)
        and {3, 4}.issuperset(map(len, shapes))
    ):
        student, *teachers = (as_map(each, image_size) for each in (student, *teachers))
    if how != "none" and student.ndim == 4:
        teachers = [_resized(each, student.shape[2:]) for each in teachers]
    if len({each.shape for each in teachers}) > 1:
        raise ValueError(
            f"the teachers yield {', '.join(map(str, shapes[1:]))}: they are concatenated, and must agree"
            + (" in their channels" if how == "auto" else f" in all that adapt={how!r} does not change")
        )
    return torch.cat(list(teachers), dim=1)


def _resized(maps: Tensor, size: Sequence[int]) -> Tensor:
    if maps.ndim != 4 or maps.shape[2:] == tuple(size):
        return maps
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)

"""What one teacher teaches a backbone without labels: its maps, standardised, through a learned linear head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import densekd.losses  # noqa: F401  registers the losses that need maps
import kdlosses

Maps = Sequence[Tensor]


class Lesson(nn.Module):
    r"""The loss between a student's maps and those of one teacher.

    Each of the teacher's maps teaches the student's map of the nearest stride; the teacher's last map teaches the
    student's last one. A learned 1x1 convolution $W_l$ leads to the teacher's channels, both go bilinearly to the
    smaller of their grids, and the teacher's map is standardised,

    $$ \hat t_l = \frac{t_l - \mu_l}{\sigma_l}, \qquad \sigma_l^2 = \frac1C \sum_c \mathrm{Var}(t_{lc}), $$

    with a mean for each channel and one deviation for the map, measured on training images beforehand. So every teacher
    and every map counts alike, however large its numbers are, and the proportions between its channels stay. With the
    mean squared error the loss of a student that predicts the mean is about 1; a rotation of the channels, which PHI-S
    adds, changes nothing under it, and is left out.

    Args:
        student: maps of the student for one batch.
        teacher: maps of the teacher for the same batch.
        loss: what `kdlosses.build` takes; one that needs no labels.

    Raises:
        ValueError: the loss needs what images without labels do not have.

    Paper: Ranzinger et al., "PHI-S: Distribution Balancing for Label-Free Multi-Teacher Distillation", 2024; of
    RADIO, Ranzinger et al., "AM-RADIO: Agglomerative Vision Foundation Model", CVPR 2024.

    >>> student, teacher = [torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)], [torch.randn(2, 12, 5, 5)]
    >>> lesson = Lesson(student, teacher)
    >>> lesson.pairs
    [(1, 0)]
    >>> lesson.measure([teacher])
    >>> lesson(student, teacher).shape
    torch.Size([])
    """

    def __init__(self, student: Maps, teacher: Maps, loss: Any = "mse") -> None:
        super().__init__()
        self.pairs = pairs(student, teacher)
        widths = [(student[mine].shape[1], teacher[its].shape[1]) for mine, its in self.pairs]
        self.heads = nn.ModuleList(nn.Conv2d(mine, its, 1) for mine, its in widths)
        losses: list[kdlosses.Loss] = []
        for _, its in widths:
            built = kdlosses.build(loss, student_channels=its, teacher_channels=its, channels=its)
            missing = sorted({*built.requires} - {"progress", "epoch"})
            if missing or built.match not in ("shape", "positions", "channels"):
                raise ValueError(
                    f"loss {built.name!r} needs {', '.join(missing) or 'another kind of input'}, which images without "
                    "labels do not have: use one on features, such as 'mse', 'pkd' or 'cwd'"
                )
            losses.append(built)
        self.losses = nn.ModuleList(losses)
        for level, (_, its) in enumerate(widths):
            self.register_buffer(f"mean{level}", torch.zeros(its, 1, 1))
            self.register_buffer(f"std{level}", torch.ones(()))

    @torch.no_grad()
    def measure(self, batches: Iterable[Maps]) -> None:
        """Set the means and deviations to those of a teacher's maps.

        Raises:
            FloatingPointError: a map is not finite, or constant.
        """
        sums: list[Any] = [[0, 0.0, 0.0] for _ in self.pairs]
        for maps in batches:
            for total, (_, its) in zip(sums, self.pairs):
                values = maps[its].double()
                total[0] += values[:, 0].numel()
                total[1] = total[1] + values.sum((0, 2, 3))
                total[2] = total[2] + values.square().sum((0, 2, 3))
        for level, (count, total, squares) in enumerate(sums):
            mean = total / count
            std = (squares / count - mean.square()).clamp(min=0).mean().sqrt()
            if not torch.isfinite(std) or std <= 1e-6 * mean.abs().max() or std == 0:
                raise FloatingPointError(
                    f"map {self.pairs[level][1]} of the teacher is constant, or not finite, on these images: there is "
                    "nothing to learn from it"
                )
            self.get_buffer(f"mean{level}").copy_(mean.view(-1, 1, 1))
            self.get_buffer(f"std{level}").copy_(std)

    def forward(self, student: Maps, teacher: Maps, **context: Any) -> Tensor:
        """Return the mean over the pairs of maps."""
        found = []
        for level, ((mine, its), head, loss) in enumerate(zip(self.pairs, self.heads, self.losses)):
            s = head(student[mine].float())
            t = (teacher[its].float() - self.get_buffer(f"mean{level}")) / self.get_buffer(f"std{level}")
            size = min(s.shape[2], t.shape[2]), min(s.shape[3], t.shape[3])
            assert isinstance(loss, kdlosses.Loss)
            told = {key: context[key] for key in loss.needs if key in context}
            found.append(loss(_resized(s, size), _resized(t, size), **told))
        return torch.stack(found).mean()


def pairs(student: Maps, teacher: Maps) -> list[tuple[int, int]]:
    """Return which map of the student each map of the teacher teaches, by their numbers; ties go to the coarser one.

    >>> maps = [torch.zeros(1, 1, 64 // stride, 64 // stride) for stride in (4, 8, 16, 32)]
    >>> pairs(maps, maps[1:]), pairs(maps[:3], maps)
    ([(1, 0), (2, 1), (3, 2)], [(0, 0), (1, 1), (2, 3)])
    """
    sizes = [each.shape[2] * each.shape[3] for each in student]
    found: dict[int, int] = {}
    for its, each in enumerate(teacher):
        area = each.shape[2] * each.shape[3]
        ratios = [max(size, area) / min(size, area) for size in sizes]
        nearest_one = max(range(len(sizes)), key=lambda n: (-ratios[n], n))
        found[nearest_one] = its  # of two for one map the deeper
    found = {mine: its for mine, its in found.items() if its != len(teacher) - 1}
    found[len(student) - 1] = len(teacher) - 1
    return sorted(found.items())


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(maps.shape[2:]) == size:
        return maps
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False, antialias=True)

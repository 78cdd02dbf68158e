from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from densekd.losses.instance_text import InstanceText
from densekd.sensors.geometry import Extent, pad, read
from kdlosses import register


@register(match="samples", categorical=True)
class Omniscene(nn.Module):
    r"""Objective of OmniScene: match the map at each object with the embedding of a sentence about it.

    $$ L = L_{\mathrm{text}}\big( \{ f^s(c_k), t_k \}_k \big) $$

    with $L_{\mathrm{text}}$ the loss `instance_text`, $f^s(c_k)$ the map, read bilinearly at the centre of box k, and
    $t_k$ the embedding of a sentence about it, over the boxes of the batch whose centre lies on the map.

    Args:
        student_channels: width of the map.
        teacher_channels: width of an embedding.
        student_range: what the map shows, `(x0, y0, x1, y1)` or a point_cloud_range of six numbers; metres.
        student_axes: 'yx' if rows run along y, as in mmdet3d, 'xy' if along x, as in BEVFusion.
        contrast: see `instance_text`.
        tau: see `instance_text`.
        project: likewise; False for a map whose channels are those of the embeddings already.

    `forward`:
        student: map `(B, C_s, h, w)`.
        teacher: embeddings `(B, C_t, *)`; the first n positions are those of the sample's n boxes, as
            `densekd.Sentences` yields them.
        boxes_bev: for each sample `(n, 5)`: x, y, dx, dy in metres, yaw.
        weight: `(B, h, w)`, cells of the map to count.

    Raises:
        ValueError: fewer embeddings than boxes.

    Paper: after the abstract of "OmniScene: Attention-Augmented Multimodal 4D Scene Understanding for Autonomous
    Driving", 2025, our own form, see `instance_text`. Factor 1.

    >>> import torch
    >>> loss = Omniscene(2, 2, student_range=(0, 0, 8, 8))
    >>> with torch.no_grad():
    ...     _ = loss.texts.project.weight.copy_(torch.eye(2))
    >>> maps = torch.eye(2)[:, :, None, None].expand(2, 2, 8, 8)
    >>> box = torch.tensor([[4.0, 4.0, 2.0, 1.0, 0.0]])
    >>> loss(maps, torch.eye(2)[:, :, None], boxes_bev=[box, box]).item() < 1e-5
    True
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        student_range: Sequence[float],
        student_axes: str = "yx",
        contrast: float = 0.5,
        tau: float = 0.07,
        project: bool = True,
    ) -> None:
        super().__init__()
        self.extent = Extent.of(student_range, student_axes)
        self.texts = InstanceText(student_channels, teacher_channels, contrast, tau, project)

    def forward(
        self, student: Tensor, teacher: Tensor, boxes_bev: Sequence[Tensor], weight: Tensor | None = None
    ) -> Tensor:
        boxes, real = pad(boxes_bev, student)
        said = teacher.flatten(2)
        if not boxes.shape[1]:  # a box that does not count, so that processes without any go on beside the others
            boxes, real = boxes.new_zeros(len(boxes), 1, boxes.shape[2]), real.new_zeros(len(boxes), 1)
            said = said.new_zeros(*said.shape[:2], 1)
        if said.shape[2] < boxes.shape[1]:
            raise ValueError(f"omniscene: a sample has {boxes.shape[1]} boxes, but the teacher {said.shape[2]} texts")
        features, counts = read(student, boxes[..., :2], self.extent, weight)
        return self.texts(features.mT, said[..., : boxes.shape[1]], weight=real & (counts > 0))

"""Attention, head by head, of models that hand it out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import densekd


class Looks(nn.Module):
    """One layer of attention over the patches of an image, which it hands out head by head."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.patch, self.place = nn.Conv2d(3, 16, 4, stride=4), nn.Parameter(torch.randn(16, 16))
        self.attention = nn.MultiheadAttention(16, heads, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, images: Tensor) -> dict[str, object]:
        tokens = self.patch(images).flatten(2).mT + self.place
        mixed, rows = self.attention(tokens, tokens, tokens, average_attn_weights=False)
        return {"logits": self.head(mixed.mean(1)), "attentions": (rows,)}


def test_a_student_looks_where_its_teacher_does_until_the_stop() -> None:
    torch.manual_seed(0)
    student, teacher, images = Looks(4), Looks(4), torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        teacher.attention.in_proj_weight.mul_(3)
    loss = dict(type="until", loss="attention_rows", stop=0.9)
    entry = dict(loss=loss, student=":attentions:0", teacher=":attentions:0")
    learner = densekd.Distillation(student, teacher, distills=[entry], example=images)
    optimiser = torch.optim.Adam(student.parameters(), lr=0.01)
    values = []
    for step in range(60):
        _, losses = learner(images, context=dict(progress=step / 60))
        optimiser.zero_grad()
        total = sum(losses.values())
        total.backward()
        optimiser.step()
        values.append(float(total))
    assert values[53] < 0.3 * values[0]
    assert values[54:] == [0.0] * 6

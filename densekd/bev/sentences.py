"""A teacher that has read about objects instead of looking at them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from densekd.bev.texts import TextTable, describe, sentences
from densekd.registry import MODELS


@MODELS.register_module()
class Sentences(nn.Module):
    """Says of each object of a batch what a language model makes of a sentence about it.

    In a config: `teacher=dict(type='densekd.Sentences', table='texts.safetensors', classes=[...])` with the method
    `omniscene`; `tools/embed_sentences.py` writes the table. It looks at the boxes and labels of the batch alone, has
    no weights, and needs no checkpoint.

    Args:
        table: file of a `TextTable` with all that `densekd.bev.texts.describe` may say of the classes.
        classes: names, in the order of the labels.
        options: of `describe`: `front`, `near`, `ahead`, `moving`.

    Raises:
        TypeError, ValueError: no classes, no such option, or one that `describe` refuses.
        KeyError: in a batch, the table lacks a sentence about one of its classes.

    Shape: `said` yields `(B, C, n, 1)`, n the most boxes that a sample has, 0 where it has fewer; those of no class,
    whose label is negative, are left out.
    """

    reads_truth = True
    """Neither a sensor of the batch nor how it was normalised matters."""

    def __init__(self, table: str | Path, classes: Sequence[str], **options: Any) -> None:
        super().__init__()
        self.table, self.classes, self.options = TextTable(table), list(classes), options
        self.said = nn.Identity()
        sentences(self.classes)
        describe(torch.zeros(0, 7), torch.zeros(0, dtype=torch.long), self.classes, **options)

    def forward(self, inputs: Any, data_samples: Sequence[Any], mode: str = "tensor") -> Tensor:
        found = [self._read(sample.gt_instances_3d) for sample in data_samples]
        return self.said(pad_sequence(found, batch_first=True).mT.unsqueeze(3))

    def _read(self, instances: Any) -> Tensor:
        if "bboxes_3d" not in instances:
            return self.table.vectors[:0]
        counts = instances.labels_3d >= 0
        boxes = instances.bboxes_3d.tensor[counts]
        return self.table(describe(boxes, instances.labels_3d[counts], self.classes, **self.options)).to(boxes)

"""A teacher without sensors: text embeddings of sentences about the objects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from densekd.bev.texts import describe, sentences
from densekd.registry import MODELS
from densekd.texts import TextTable


@MODELS.register_module()
class Sentences(nn.Module):
    """Yields the language-model embedding of a sentence about each object of a batch.

    In a config: `teacher=dict(type='densekd.Sentences', table='texts.safetensors', classes=[...])` with the method
    `omniscene`; `tools/embed_sentences.py` writes the table. It reads only the boxes and labels of the batch, has no
    weights, and needs no checkpoint.

    Args:
        table: file of a `TextTable` with all `densekd.bev.texts.sentences` of the classes.
        classes: names, in the order of the labels.
        options: of `describe`: `front`, `near`, `ahead`, `moving`.

    Raises:
        TypeError, ValueError: no classes, an unknown option, or a value that `describe` rejects.
        KeyError: in a batch, the table lacks a sentence about one of its classes.

    Shape: the tap `said` yields `(B, C, n, 1)`, n the largest number of boxes in a sample, padded with 0; boxes without
    a class, whose label is negative, are left out.
    """

    reads_truth = True
    """The teacher uses no sensor of the batch, so that its normalisation does not matter."""

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

"""Teachers weighted by how alike their task is."""

from __future__ import annotations

import torch
from torch import Tensor

from densekd.policies.registry import policy
from densekd.policies.run import Policy, Run
from kdlosses.reduce import labelled
from kdlosses.rules.similar import source_weights, task_similarity


@policy("similar")
class Similar(Policy):
    r"""Weigh the entries of several teachers by task similarity, or keep the nearest teacher alone.

    $$ w_e \leftarrow a_e w_e, \qquad a_e = \frac{s_e^p}{\sum_j s_j^p}, $$

    with $s_e$ the linear CKA of the last features of teacher e and the one-hot labels, at positions of a few training
    images, see `kdlosses.rules.task_similarity`. It is measured once, before the training; a teacher of weight 0 does
    not run. Teachers may have classes of their own: an entry with `adapt='conv1x1'` from the student's features to
    their logits learns a head for each, which is thrown away.

    Args:
        power: p; 0 weighs all alike.
        nearest: keep the most similar teacher alone: DistillNearest.
        look: images to look at.
        positions: of them that the similarity is of, drawn at random.

    Attributes:
        similarity: by teacher.
        weights: likewise.

    Raises:
        ValueError: an option is out of range, there is a single teacher, an entry has several of them, or nothing is
            labelled.

    Paper: Borup, Phoo, Hariharan, "Distilling from Similar Tasks for Transfer Learning on a Budget", ICCV 2023. The
    power of CKA as the weight is our own form.
    """

    taught = True

    def __init__(self, power: float = 1.0, nearest: bool = False, look: int = 32, positions: int = 2048) -> None:
        if power < 0 or look < 1 or positions < 2:
            raise ValueError(
                f"policy 'similar': power is not negative, look at least 1 and positions 2; got {power}, {look} and "
                f"{positions}"
            )
        self.power, self.nearest, self.looked, self.positions = power, nearest, look, positions
        self.similarity: dict[str, float] = {}
        self.weights: dict[str, float] = {}

    def start(self, run: Run) -> None:
        if len(run.teachers) < 2:
            raise ValueError("policy 'similar' weighs teachers, and there is one: give several by name")
        for term in run.terms:
            if len(term.sources) != 1 or term.sources[0] is None:
                raise ValueError(
                    f"policy 'similar' weighs entries by their teacher; entry {term.name!r} has several: write one for "
                    "each"
                )
        some = torch.randperm(len(run.data), generator=run.generator())[: self.looked].tolist()
        self.similarity = {name: self._similarity(run, name, some) for name in run.teachers}
        found = source_weights(torch.tensor(list(self.similarity.values())), self.power, self.nearest)
        self.weights = dict(zip(self.similarity, found.tolist()))
        for term in run.terms:
            run.scale("similar", term, self.weights[term.sources[0]])

    def _similarity(self, run: Run, teacher: str, images: list[int]) -> float:
        rows: list[Tensor] = []
        classes: list[Tensor] = []
        for start in range(0, len(images), run.batch_size):
            with run.aside():
                features, labels = run.features(teacher, run.batch(images[start : start + run.batch_size]))
            safe, known = labelled(labels, None, run.ignore_index)
            rows.append(features.movedim(1, -1)[known].cpu())
            classes.append(safe[known].cpu())
        every, truth = torch.cat(rows), torch.cat(classes)
        if len(truth) < 2:
            raise ValueError(f"policy 'similar': {len(truth)} of the positions of {len(images)} images have a label")
        chosen = torch.randperm(len(truth), generator=run.generator(1))[: self.positions]
        return task_similarity(every[chosen], truth[chosen], int(truth.max()) + 1).item()

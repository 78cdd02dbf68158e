"""Spatial attention of each stage of the backbone and of each level of the neck."""

from typing import Any

from torch import nn

from densekd.methods.levels import levels
from densekd.methods.registry import method
from densekd.taps.defaults import tap


@method()
def sad(student: nn.Module, teacher: nn.Module, weight: float = 1000.0) -> list[dict[str, Any]]:
    r"""Spatial attention distillation: where the features of each group of layers are large, whatever their channels.

    $$ L = w \sum_g \mathrm{mean}_{n,i} (A^s_{gni} - A^t_{gni})^2, \qquad
       A = a / \|a\|_2, \quad a_i = \mathrm{mean}_c f_{ic}^2, $$

    the loss `at` with p = 2, over the groups of layers that were pruned with thresholds of their own: the stages of the
    backbone that it yields, and the levels that the neck makes of them, without those that it adds. A model without a
    backbone has its default features. The teacher of a pruned student is the network as it was before, see `densekd
    prune`.

    Args:
        student: a model with a backbone, or default features.
        teacher: another one, with maps of the same size.
        weight: of each group. 1000 is that of Zagoruyko and Komodakis for the mean over positions.

    Raises:
        ValueError: the backbones yield unlike numbers of maps.

    Paper: Chu et al., "Group channel pruning and spatial attention distilling for object detection", Applied
    Intelligence 2022: the sum over positions in the place of the mean. Its weights were not to be had.
    """
    counts = [len(getattr(getattr(model, "backbone", None), "out_indices", ())) for model in (student, teacher)]
    if counts[0] != counts[1]:
        raise ValueError(
            f"method 'sad' compares the stages that the backbones yield: the student's yields {counts[0]}, the "
            f"teacher's {counts[1]}; give both the same out_indices, or entries of distills with the loss 'at'"
        )
    entries = [
        {"student": f"backbone:{i}", "teacher": f"backbone:{i}", "name": f"sad_stage_{i}"} for i in range(counts[0])
    ]
    if tap(student, "features") == tap(teacher, "features") == "neck" or not entries:
        neck = getattr(student, "neck", None)
        read = getattr(neck, "in_channels", ())  # a number where the neck reads one map
        made = (len(read) if isinstance(read, list | tuple) else 1) - getattr(neck, "start_level", 0)
        entries += levels(student, teacher, "sad")[: made if made > 0 else None]
    return [{**entry, "loss": "at", "weight": weight} for entry in entries]

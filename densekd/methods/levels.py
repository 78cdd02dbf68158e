"""An entry for each feature level, for methods whose losses have parameters."""

from __future__ import annotations

from typing import Any

from torch import nn

from densekd.taps.defaults import tap


def levels(student: nn.Module, teacher: nn.Module, name: str) -> list[dict[str, Any]]:
    """Return the taps and the name of an entry for each level of the default features, without a loss.

    If the number of levels is unknown, or differs between the models, one entry covers all levels.
    """
    mine, its = tap(student, "features"), tap(teacher, "features")
    counts = [getattr(getattr(model, "neck", None), "num_outs", None) for model in (student, teacher)]
    if {mine, its} != {"neck"} or counts[0] is None or counts[0] != counts[1]:
        return [{"student": mine, "teacher": its, "name": name}]
    return [{"student": f"neck:{i}", "teacher": f"neck:{i}", "name": f"{name}_{i}"} for i in range(counts[0])]

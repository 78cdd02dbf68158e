"""Learning embedding linear projections: few classes are split by the teacher's embeddings (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import features, logits
from densekd.methods.registry import method
from kdlosses.outputs import output_at


@method()
def lelp(
    student: nn.Module,
    teacher: nn.Module,
    tau: float = 1.0,
    subclass_tau: float = 1.0,
    fit_steps: int = 20,
    weight: float = 1.0,
) -> list[dict[str, Any]]:
    """Match the subclasses that the teacher's last feature tells apart on a student that has logits for each of them.

    The directions are fitted to the first `fit_steps` batches; until then the loss is 0.

    Raises:
        ValueError: the student is no segmenter, or its last layer has no subclasses.

    Paper: Loo et al., "Linear Projections of Teacher Embeddings for Few-Class Distillation", 2024.
    """
    own = logits("lelp", student, teacher)["student"]
    output_at(student, own, "subclasses", "method 'lelp'")
    loss = {"type": "lelp", "tau": tau, "subclass_tau": subclass_tau, "fit_steps": fit_steps}
    its = features("lelp", student, teacher)["teacher"]
    return [{"loss": loss, "student": f"{own}.layer", "teacher": its, "weight": weight}]

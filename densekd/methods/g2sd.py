"""First the teacher's decoder features, then its predicted classes."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import tap


@method()
def g2sd(student: nn.Module, teacher: nn.Module, generic: float = 0.6) -> list[dict[str, Any]]:
    """Match decoder features in the first 0.6 of the training (generic stage), then predicted classes (specific).

    Generic: the feature before the logits, through a linear layer, is matched with the teacher's, normalised at each
    position (loss `g2sd`, beta 2). Specific: cross-entropy with the teacher's first class at each pixel. Weights 1: in
    the specific stage teacher and labels count the same, as published, where both have 1/2. The stages share the
    training as the paper's 300 and 200 epochs do.

    The published generic stage is pre-training on masked images without labels: the decoder of an auto-encoder and its
    masked tokens. `densekd pretrain --masked g2sd` is that stage; with the backbone that it leaves, `generic=0` is the
    specific stage alone. With `generic` above 0 there is no pre-training: the decoder is the one of the segmenter, both
    see the whole image, every position counts, and the student's own loss is on in both stages; that is our own. In the
    specific stage the paper's teacher supervises a distillation token, here the student's only logits.

    Args:
        student: the student.
        teacher: the teacher.
        generic: share of the training that is the generic stage; 0 after a pre-training, below 1.

    Raises:
        ValueError: one of the models has no class logits at each pixel, or `generic` is not in [0, 1).

    Paper: Huang et al., "Generic-to-Specific Distillation of Masked Autoencoders", CVPR 2023. Factors 1.
    """
    if not 0 <= generic < 1:
        raise ValueError(
            f"g2sd: generic is the share of the training that is the first stage, in [0, 1), got {generic}"
        )
    features, logits = (
        {"student": tap(student, kind), "teacher": tap(teacher, kind)} for kind in ("features", "logits")
    )
    if generic == 0:
        return [{"loss": "pseudo", **logits, "weight": 1.0, "name": "specific"}]
    first, then = (
        {"type": "stages", "losses": losses}
        for losses in ([(generic, "g2sd"), (1.0, None)], [(generic, None), (1.0, "pseudo")])
    )
    return [
        {"loss": first, **features, "adapt": "conv1x1", "weight": 1.0, "name": "generic"},
        {"loss": then, **logits, "weight": 1.0, "name": "specific"},
    ]

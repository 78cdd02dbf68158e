"""Norm and direction: features towards the teacher's class means, as long as the teacher's, beside the logits."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import is_segmenter, tap

_CLASSIFIER = "roi_head.bbox_head.fc_cls"


@method()
def nd(student: nn.Module, teacher: nn.Module, weight: float = 1.0, kl: float = 1.0) -> list[dict[str, Any]]:
    """Match the norm of the teacher's features and the direction of its class means, and the logits.

    Of a one-stage detector the features are what its class branch reads last, at the positions to which its own
    assigner gives an object; background has no mean. Its logits, a sigmoid a class, are matched inside of the boxes. Of
    a two-stage detector both are those of the proposals that the student samples, of which the teacher is asked, too;
    background is one of the classes.

    Args:
        student: a segmenter, or a detector that assigns labels to its positions or proposals.
        teacher: another one.
        weight: of norm and direction. Published: 1 on ImageNet.
        kl: weight of the logits; 0 for none.

    Raises:
        ValueError: a detector with two stages has not one box head, as a cascade, or the other has a single stage.

    Paper: Wang et al., "Improving Knowledge Distillation via Regularizing Feature Norm and Direction", 2023. Where a
    detector is tapped is ours.
    """
    if hasattr(student, "roi_head"):
        for side, model in (("student", student), ("teacher", teacher)):
            if _CLASSIFIER not in dict(model.named_modules()):
                raise ValueError(
                    f"method 'nd' asks the teacher about the student's proposals, with one box head on both sides; the "
                    f"{side}, a {type(model).__name__}, has no {_CLASSIFIER}: use pkd, mgd or fgd"
                )
        of = {"logits": _CLASSIFIER, "features": f"{_CLASSIFIER}:in"}
        features, logits = ({"student": of[kind], "teacher": of[kind]} for kind in ("features", "logits"))
    else:
        features, logits = (
            {"student": tap(student, kind), "teacher": tap(teacher, kind)} for kind in ("features", "logits")
        )
        if not is_segmenter(student):  # the neck's features tell where objects are, those of the class branch which
            features = {side: "+".join(f"{part}:in" for part in spec.split("+")) for side, spec in logits.items()}
            logits["where"] = "boxes"
    entries = [{"loss": "nd", **features, "weight": weight}]
    return [*entries, {"loss": "kl", **logits, "weight": kl}] if kl else entries

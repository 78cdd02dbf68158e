"""Distillation between distributions: the teacher's classifier and features, where both are sure (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.pixels import features, logits
from densekd.methods.registry import method
from kdlosses.outputs import output_at


@method()
def kd3(
    student: nn.Module, teacher: nn.Module, kappa: float = 0.3, feature: float = 1.0, contrast: float = 0.0
) -> list[dict[str, Any]]:
    """Match logits, and the features before a classifier that both share, where the two are sure together.

    The student ends in the output `shared`, see `kdlosses.outputs.SharedClassifier`; the policy `share_classifier` puts
    the teacher's last layer there. With `contrast` the student has to recognise positions of images in copies of
    another distribution, by these features: the batches are of `densekd.MixDistributionPreProcessor`.

    Args:
        student: a segmenter.
        teacher: likewise.
        kappa: least confidence that counts, see `kdlosses.policy.Confident`.
        feature: weight of the features.
        contrast: weight of the copies; 0.01 in the recipe of graphs.

    Raises:
        ValueError: the student is no segmenter, its last layer has no place for the teacher's, or there are no copies.

    Paper: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images", ICCV 2023.
    Its formulas were not at hand: the weights are our own.
    """
    taps = logits("kd3", student, teacher)
    output_at(student, taps["student"], "shared", "method 'kd3'")
    its = features("kd3", student, teacher)["teacher"]
    weighed = {"type": "confident_feature", "kappa": kappa}
    layer = f"{taps['student']}.layer"
    entries: list[dict[str, Any]] = [
        {"loss": {"type": "confident", "kappa": kappa}, **taps},
        {"loss": weighed, "student": layer, "teacher": its, "weight": feature},
    ]
    if contrast:
        if type(getattr(student, "data_preprocessor", None)).__name__ != "MixDistributionPreProcessor":
            raise ValueError(
                "method 'kd3': contrast compares images with copies of another distribution, which the student's "
                "data_preprocessor makes: dict(type='densekd.MixDistributionPreProcessor')"
            )
        views = "densekd.models.mix_distribution:two_views"
        entries.append({"loss": views, "student": layer, "teacher": its, "weight": contrast, "name": "two_views"})
    return entries

"""Frequency distillation of the neck (detection) or of the feature before the logits (segmentation)."""

from pathlib import Path
from typing import Any

from torch import nn

from densekd.methods.levels import levels
from densekd.methods.registry import method


@method()
def freekd(
    student: nn.Module, teacher: nn.Module, learned: str | None = None, mse: float = 5.0, weight: float = 1.0
) -> list[dict[str, Any]]:
    """Match the bands of a wavelet transform where prompts look, and the features themselves.

    An entry for each level, behind a learned 1x1 convolution even where the channels agree. The authors' code also
    matches the box regression of RetinaNet by a smooth L1 loss, weight 1, which this leaves out.

    Args:
        student: a detector or a segmenter.
        teacher: another one.
        learned: folder of `densekd tokens --frequency`, which has a file of prompts for each tap of the teacher;
            without, every mask is 1/2, and nothing says where to look.
        mse: weight of the squared error within each entry; 0 leaves the paper's loss alone.
        weight: of all entries.

    Raises:
        FileNotFoundError: the folder has no prompts for a tap.

    Paper: Zhang et al., "FreeKD: Knowledge Distillation via Semantic Frequency Prompt", CVPR 2024.
    """
    entries = []
    for entry in levels(student, teacher, "freekd"):
        loss: dict[str, Any] = {"type": "freekd", "mse": mse}
        if learned is not None:
            path = Path(learned) / f"{entry['teacher'].replace(':', '.')}.safetensors"
            if not path.is_file():
                raise FileNotFoundError(
                    f"there are no prompts {path}: write them with densekd tokens TEACHER --checkpoint ... --frequency "
                    f"--tap {entry['teacher']} --out {learned}"
                )
            loss["learned"] = str(path)
        entries.append({**entry, "loss": loss, "adapt": "conv1x1", "weight": weight})
    return entries

"""Fused stages and patch embeddings of hierarchical transformers (segmentation)."""

from typing import Any

from torch import nn

from densekd.methods.registry import method
from densekd.taps.defaults import backbone_name, blocks, patch_embeddings

STAGE_WEIGHTS = (0.1, 0.1, 0.5, 1.0)


@method()
def transkd(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """Match the four stages, fused from the last to the first, and their patch embeddings.

    Stages: cross selective fusion (`adapt='csf'`, see `densekd.align.csf`), then `hcl`, weight 1. Patch embeddings: a
    linear layer, then `mse`, weights 0.1, 0.1, 0.5 and 1. Token grids of unlike strides are resized bilinearly, which
    is our own. This is the authors' Base; their GL-Mixer is `transkd_gl`, their embedding assistant `transkd_ea`.

    Their figures are gains over a student that starts without pre-training, in 1000 epochs or more.

    Raises:
        ValueError: one of the backbones has not four stages that begin with a patch embedding, as MiT (mmseg) and PVT
            (mmdet) have.

    Paper: Liu et al., "TransKD: Transformer Knowledge Distillation for Efficient Semantic Segmentation", IEEE T-ITS
    2024. Factors 1.
    """
    return _entries(student, teacher)


@method()
def transkd_gl(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """As `transkd`, with the last patch embedding mixed globally and locally first, see `densekd.align.gl_mixer`."""
    entries = _entries(student, teacher)
    entries[-1]["adapt"] = "gl_mixer"
    return entries


@method()
def transkd_ea(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    """As `transkd`, each patch embedding with `densekd.align.embedding_assistant.EmbeddingAssistant`."""
    entries = _entries(student, teacher)
    for entry, path in zip(entries[1:], _embeddings("student", student)):
        entry.update(student=f"{path}:0+{path}:in", adapt="ea")
    return entries


def _entries(student: nn.Module, teacher: nn.Module) -> list[dict[str, Any]]:
    mine, theirs = _embeddings("student", student), _embeddings("teacher", teacher)
    stages = {"loss": "hcl", "student": "backbone", "teacher": "backbone", "adapt": "csf", "name": "stages"}
    return [
        stages,
        *(
            {
                "loss": "mse",
                "student": f"{mine[i]}:0",
                "teacher": f"{theirs[i]}:0",
                "adapt": "conv1x1",
                "weight": STAGE_WEIGHTS[i],
                "name": f"embedding_{i}",
            }
            for i in range(4)
        ),
    ]


def _embeddings(side: str, model: nn.Module) -> list[str]:
    found = patch_embeddings(model)
    if len(found) == 4:
        return found
    has = f"{len(found)} of them" if found else "transformer blocks of one grid" if blocks(model) else "no tokens"
    raise ValueError(
        "transkd needs four stages with a patch embedding each, such as MixVisionTransformer has; the "
        f"{side}'s backbone, {backbone_name(model)}, has {has}; use "
        + ("'dmae' or 'hybrid', which match blocks" if blocks(model) else "'cwd' or 'pkd'")
    )

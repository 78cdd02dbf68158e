"""Read OpenMMLab configs; derive from one the distillation run and the control."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config, ConfigDict
from mmengine.hub import get_config

from densekd.regions import TEXTS
from densekd.shipped import CONFIGS, is_config


def read_config(source: str | Path) -> Config:
    """Read a config from a path or from an installed package, as `mmseg::pspnet/pspnet_r18-d8_....py`.

    Those of this package, rows of `densekd.pairs` included, have names, too: `densekd::seg/cwd/digits.py`, or shorter
    `seg/cwd/digits`.

    Raises:
        FileNotFoundError: no such config.
        ModuleNotFoundError: the package is not installed.
        ValueError: the file is not a config; the message has the error of Python or mmengine.
    """
    package, found, _ = str(source).partition("::")
    if found and find_spec(package) is None:
        raise ModuleNotFoundError(f"config {source}: the package {package} is not installed", name=package)
    if found and package == "graphkd":
        raise ValueError(f"config {source} is of graphkd, for a graph: `graphkd distill {source}` runs it")
    if package == "densekd" or (not found and not is_config(source)):
        source, found = CONFIGS.find(str(source)), ""
    try:
        return get_config(str(source)) if found else Config.fromfile(source)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"config {source}: {error}") from error
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"config {source}: {error}", name=error.name) from error
    except Exception as error:  # a config is Python: whatever running it can raise
        raise ValueError(f"config {source} cannot be read: {type(error).__name__}: {error}") from error


def is_taught(config: Config) -> bool:
    """Whether the model of a config is a distiller, ours or the user's: it has a student and a teacher.

    Raises:
        ValueError: the config has no model.
    """
    if not isinstance(config.get("model"), Mapping):
        raise ValueError(f"config {config.filename} has no model=dict(...)")
    return _has_student(config.model)


def is_semi(config: Config) -> bool:
    """Whether the model of a config is a detector with its moving average, `densekd.MeanTeacher` or one of mmdet."""
    return isinstance(config.get("model"), Mapping) and _has_average(config.model)


def regions_of(config: Config) -> str | None:
    """The folder of regions that the RoI head of a detector learns from, see `densekd.EZADRoIHead`, or None."""
    model = config.get("model")
    head = model.get("roi_head") if isinstance(model, Mapping) else None
    return head.get("regions") if isinstance(head, Mapping) else None


def several_teachers(teacher: Any) -> bool:
    """Whether the `teacher` of a distiller is a dict of several by name, and not the config of one."""
    return isinstance(teacher, Mapping) and "type" not in teacher and "model" not in teacher


def plain_model(model: Any) -> Any:
    """Return the student's part of a distiller's model config, or the detector of one with its moving average.

    Any other model config is unchanged.

    A student given as the path of a config is read from there; nested distillers are unwrapped.

    Raises:
        FileNotFoundError, ModuleNotFoundError, TypeError, ValueError: the student's config cannot be read, holds no
            model, or leads back to itself.
    """
    return _plain(model).model


def control(config: Config) -> Config:
    """Return the control's config: the plain student under the same schedule.

    `load_from` of the student's own config applies unless the config sets one. Its scope applies as well. A detector
    that learns from regions keeps the names of its classes, and leaves the regions out.
    """
    if is_taught(config) or is_semi(config):
        plain = _plain(config.model)
        model = ConfigDict(plain.model)
        if plain.scope not in (None, config.get("default_scope")):
            model.setdefault("_scope_", plain.scope)
        config.model = model
        if plain.load_from and not config.get("load_from"):
            config.load_from = plain.load_from
    folder = regions_of(config)
    if folder is not None:
        head = config.model["roi_head"]
        head["texts"] = head.get("texts") or str(Path(folder) / TEXTS)
        head["regions"] = None
    return config


def distill(config: Config, **options: Any) -> Config:
    """Return the config with its model as the student of a `densekd.Distiller` with the arguments `options`.

    Raises:
        ValueError: the config names a distiller already, or a detector with its moving average.
    """
    if is_taught(config):
        raise ValueError(f"{config.filename} names densekd.Distiller already; change its fields there")
    if is_semi(config):
        raise ValueError(
            f"{config.filename} trains a detector and its average on images without labels: a densekd.Distiller is "
            "its detector=, not around it"
        )
    config.model = ConfigDict(type="densekd.Distiller", student=config.model, **options)
    return config


def cache_in(config: Config, folder: str) -> None:
    """Set the folder of the teachers' outputs in the config of a distiller; its other options of `teacher_cache` stay.

    Raises:
        ValueError: the folder has no name.
    """
    if not folder:
        raise ValueError("--teacher-cache needs the name of a folder, got an empty one")
    given = config.model.get("teacher_cache")
    config.model.teacher_cache = {**given, "path": folder} if isinstance(given, Mapping) else folder


def override(config: Config, options: Mapping[str, Any]) -> Config:
    """Merge `{'a.b': value}` into a config, and return it.

    Raises:
        ValueError: a field is unknown but close to a known one, so that it is probably misspelt.
    """
    for dotted in options:
        level: Any = config._cfg_dict
        for i, name in enumerate(dotted.split(".")):
            if not isinstance(level, Mapping):
                break
            if name not in level:
                known = [*level, *(_FIELDS if i == 0 else ())]
                near = get_close_matches(name, known, n=1, cutoff=0.85) if name not in known else []
                if near:
                    here = ".".join(dotted.split(".")[: i + 1])
                    raise ValueError(f"{config.filename} has no field {here}: did you mean {near[0]}?")
                break
            level = level[name]
    config.merge_from_dict(dict(options))
    return config


_FIELDS = (
    *(f"{split}_{part}" for split in ("train", "val", "test") for part in ("dataloader", "cfg")),
    *("val_evaluator", "test_evaluator", "auto_scale_lr", "optim_wrapper", "param_scheduler", "default_hooks"),
    *("custom_hooks", "data_preprocessor", "load_from", "resume", "launcher", "env_cfg", "log_processor", "log_level"),
    *("find_unused_parameters", "model_wrapper_cfg", "sync_bn", "tta_model", "tta_pipeline", "visualizer"),
    *("default_scope", "randomness", "experiment_name", "work_dir", "custom_imports", "compile"),
)
"""Fields that mmengine's runner reads, whether or not a config has them."""


class _Plain(NamedTuple):
    model: Any
    load_from: str | None = None
    scope: str | None = None


def _has_student(model: Any) -> bool:
    return "student" in model and "teacher" in model


def _has_average(model: Any) -> bool:
    kind = str(model.get("type")).rpartition(".")[2]  # trackers, too, have a detector
    return "detector" in model and ("semi_train_cfg" in model or kind in _OF_AN_AVERAGE)


_OF_AN_AVERAGE = ("MeanTeacher", "SoftTeacher", "LPLD", "WSCoL", "SemiBaseDetector")


def _plain(model: Any, passed: tuple[Any, ...] = ()) -> _Plain:
    """The plain student of a model config, with the weights and the scope of the config that holds it."""
    part = "detector" if _has_average(model) else "student"
    if part == "student" and not _has_student(model):
        return _Plain(model)
    source = model[part]
    if not isinstance(source, str | Path | Mapping):
        raise TypeError(f"{part}= must be a model config or the path of a config, got a {type(source).__name__}")
    if str(source) in passed:
        raise ValueError(f"the {part} {source} leads back to itself: its config names itself as the {part}")
    config: Any = source if isinstance(source, Mapping) else read_config(source)
    if "model" not in config or "type" in config:
        config = {"model": config}
    inner = _plain(config["model"], (*passed, str(source)))
    found = dict(inner.model)
    if "type" not in found:
        raise TypeError(f"a model config needs a 'type', got the keys {', '.join(map(repr, found))}")
    for owner in (config, *((model,) if part == "student" else ())):  # a top-level one, then the distiller's
        if owner.get("data_preprocessor") is not None:
            found.setdefault("data_preprocessor", owner["data_preprocessor"])
    return _Plain(
        ConfigDict(found), config.get("load_from") or inner.load_from, inner.scope or config.get("default_scope")
    )

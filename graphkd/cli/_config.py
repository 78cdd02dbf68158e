"""Configs of `graphkd distill`: read, checked, and made for samples of a graph."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from graphkd import config as settings
from graphkd.pipeline.distill_sampled import BATCH, EPOCHS
from graphkd.pipeline.logs import listed
from graphkd.recipes import check_method, check_run, inputs_of
from graphkd.students.classifier import StudentClassifier
from graphkd.training.cache import Cache
from graphkd.training.watch import Run
from kdlosses.cli.mistakes import one_sentence
from kdlosses.discover import imported
from kdlosses.options import nearest

Config = dict[str, Any]


DEFAULTS: Config = {
    "settings": ["tran", "ind"],
    "teacher": {"type": "sage", "epochs": 200},
    "student": {"hidden": [256], "dropout": 0.5, "lr": 0.01, "weight_decay": 5e-4, "epochs": 500, "patience": 50},
}
"""What `--graph` runs with, that of `configs/_base_/graph.py`."""


def methods_of(recipes: Iterable[str], losses: Iterable[str]) -> list[Config]:
    """The methods of a config that a command line names: recipes, and losses on logits, each by itself.

    >>> methods_of(["glnn"], ["mse"])
    [{'type': 'glnn'}, {'type': 'terms', 'distills': [{'loss': 'mse'}]}]
    """
    found: list[Config] = [{"type": name} for name in recipes]
    return found + [{"type": "terms", "distills": [{"loss": name}]} for name in losses]


def check(config: Config) -> None:
    """Raise for what can be found wrong with a config before anything is trained."""
    for key in ("settings", "methods"):
        if not isinstance(config[key], list) or not config[key]:
            raise ValueError(f"{key} is a list, and not an empty one; got {config[key]!r}")
    for setting in config["settings"]:
        if setting not in ("tran", "ind"):
            raise ValueError(f"settings are 'tran' and 'ind', not {setting!r}")
    for method in config["methods"]:
        check_method(method)
        inputs_of(method)
    for spec in (*listed(config["teacher"]), *config.get("references", [])):
        if not isinstance(spec, dict) or not isinstance(spec.get("type", spec.get("cache")), str):
            raise ValueError(f"a teacher is a dict with a 'type' or a 'cache', which is a string; got {spec!r}")
    if not isinstance(config["student"], dict):
        raise ValueError(f"student is a dict of options of StudentClassifier, got {config['student']!r}")
    StudentClassifier(**config["student"]).check_settings()


def read_config(path: Path) -> Config:
    """Read a config with its bases, see `graphkd.config`."""
    if not path.is_file():
        raise SystemExit(f"{path} is no file")
    try:
        config = json.loads(json.dumps(settings.read(path)))  # tuples as lists: as it will be read back from the log
    except Exception as error:  # a config is Python, in which anything can go wrong
        raise SystemExit(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    known = {"data", "teacher", "student", "methods", "settings"}
    optional = {"references", "scoring"}
    if "model" in config:
        raise SystemExit(f"{path} has a 'model': it is a config of mmengine; densekd train reads it, and not graphkd")
    if set(config) - optional != known:
        missing = [f"lacks {key!r}" for key in sorted(known - set(config))]
        unknown = [
            f"has a key {key!r}, which no graph config has: {nearest(key, (*known, *optional))}"
            for key in sorted(set(config) - known - optional)
        ]
        raise SystemExit(f"{path} {' and '.join(missing + unknown)}")
    if any(isinstance(each, dict) and "cache" in each and len(each) > 1 for each in listed(config["teacher"])):
        raise SystemExit(f"{path}: a teacher from a cache has no other option: dict(_delete_=True, cache=...)")
    return config


def read_keys(path: Path, keys: Sequence[str], kind: str, may_be_empty: bool = False) -> Config:
    """Read a config that has all of these keys and no other; raise SystemExit for another.

    Its methods, a list, become dicts. `kind` says what it is of, `may_be_empty` that it need not have a method.
    """
    with one_sentence(path):
        config: Config = json.loads(json.dumps(settings.read(path)))  # tuples as lists, as in `read_config`
    for key in config:
        if key not in keys:
            raise SystemExit(f"{path} has a key {key!r}, which no config of {kind} has: {nearest(key, keys)}")
    for key in keys:
        if key not in config:
            raise SystemExit(f"{path} lacks {key!r}")
    methods = config["methods"]
    if not isinstance(methods, list) or not (methods or may_be_empty):
        what = "a list" if may_be_empty else "a list, and not an empty one"
        raise SystemExit(f"{path}: methods is {what}; got {methods!r}")
    config["methods"] = [each if isinstance(each, dict) else {"type": each} for each in methods]
    return config


def teacher_of(spec: Any, setting: str, seed: int) -> Any:
    """The teacher of a config as `train_teacher` takes it: its cache opened, its function imported."""
    if isinstance(spec, list):
        return [teacher_of(each, setting, seed) for each in spec]
    if "cache" in spec:
        return Cache.load(_folder(spec["cache"], setting, seed))
    if "source" in spec:
        spec = {**spec, "source": _hidden_states(_folder(spec["source"], setting, seed))}
    return {**spec, "type": imported("teacher", spec["type"])} if ":" in spec["type"] else spec


def _folder(pattern: str, setting: str, seed: int) -> str:
    try:
        return pattern.format(setting=setting, seed=seed)
    except (AttributeError, IndexError, KeyError, ValueError) as error:
        raise SystemExit(f"{pattern!r} is no folder: it may have {{setting}} and {{seed}} in it") from error


def _hidden_states(folder: str) -> Cache:
    try:
        return Cache.load(folder)
    except FileNotFoundError as error:
        raise SystemExit(f"{error}; `graphkd embed` writes that of a language model") from error


def references(config: Config) -> list[Any]:
    """What is trained beside: that which the config lists, and every network in it that is taught, untaught."""
    beside = config.get("references", [])
    untaught = [
        {key: value for key, value in each.items() if key != "method" and (key != "source" or "inputs" in each)}
        for each in (*listed(config["teacher"]), *beside)
        if "method" in each
    ]
    found = [*untaught, *beside]
    return [each for place, each in enumerate(found) if each not in found[:place]]


def check_where(config: Config, run: Run) -> None:
    """Raise ValueError if a method or a teacher cannot be trained on this device, or in bfloat16."""
    for method in config["methods"]:
        check_run(method, run.device, run.amp)
    taught = any("method" in each for each in (*listed(config["teacher"]), *config.get("references", [])))
    if taught and (run.amp or run.device.type != "cpu"):
        raise ValueError("a teacher that is itself taught learns on the CPU, in float32: leave out --device and --amp")


def of_samples(config: Config, of_command: bool) -> Config:
    """The config as it is trained on samples of a graph, and logged.

    What the command line says by `--graph` has the defaults of `distill` there. Of a config a student without
    `batch_size` gets one, with a warning.
    """
    config = {**config, "scale": "sampled"}
    student = dict(config["student"])
    if of_command:
        kind = {key: value for key, value in config["teacher"].items() if key != "epochs"}
        return {**config, "teacher": kind, "student": {**student, "epochs": EPOCHS, "batch_size": BATCH}}
    if student.get("batch_size") is None:
        warnings.warn(
            f"the student takes {BATCH} nodes a step of samples: the config names no batch_size", stacklevel=2
        )
        student["batch_size"] = BATCH
    return {**config, "student": student}

"""Read configs: Python files whose names are settings, on top of the files that `_base_` names.

What mmengine's `Config` makes of such a file, this does, without mmengine.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from graphkd.shipped import CONFIGS

_MARKS = re.compile(r"\{\{\s*[\w.$:]+\s*\}\}")


def read(path: str | Path, passed: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Run a config and return its settings by name.

    `_base_` is the path of another config or a list of them, from the folder of the config on, or the name of one that
    comes with graphkd, `graphkd::default/cora.py`. A dict is merged into the base's dict of that name, unless it has
    `_delete_=True`; any other value replaces the base's. In the file the settings of the bases are `_base_.name`.
    Modules, functions, classes and names with `_` before them are no settings.

    Args:
        path: of the config; it is run as Python.
        passed: the configs that led here by their `_base_`.

    Raises:
        FileNotFoundError: there is no such file.
        TypeError: a dict stands where the base has something else.
        ValueError: `_base_` is no path, leads back to this file, or two bases have a setting of one name; or the file
            has placeholders of mmengine.
        Exception: whatever running the file raises.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "base.py").write_text("teacher = dict(type='sage', epochs=200)")
    >>> _ = (folder / "mine.py").write_text("_base_ = 'base.py'; teacher = dict(epochs=2 * _base_.teacher.epochs)")
    >>> read(folder / "mine.py")
    {'teacher': {'type': 'sage', 'epochs': 400}}
    """
    path = Path(path).resolve()
    if path in passed:
        raise ValueError(f"{path} is, by way of its own _base_, itself")
    text = path.read_text(encoding="utf-8")
    if mark := _MARKS.search(text):
        raise ValueError(f"{mark[0]} is mmengine's; here a setting of a base is _base_.name, without quotation marks")
    tree = ast.parse(text, str(path))
    named = [line for line in tree.body if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "_base_"]
    tree.body = [line for line in tree.body if line not in named]
    base: dict[str, Any] = {}
    for name in _paths(named[-1].value) if named else ():
        found = read(CONFIGS.find(name) if "::" in name else path.parent / name, (*passed, path))
        if twice := base.keys() & found.keys():
            raise ValueError(f"two of the bases have {', '.join(sorted(twice))}")
        base |= found
    names: dict[str, Any] = {"_base_": _Base(copy.deepcopy(base)), "__file__": str(path), "__name__": path.stem}
    exec(compile(tree, str(path), "exec"), names)
    own = {key: value for key, value in names.items() if not key.startswith("_")}
    return merged(base, {k: v for k, v in own.items() if not isinstance(v, FunctionType | ModuleType | type)})


def merged(base: Mapping[str, Any], own: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return settings on top of those of a base.

    >>> merged(dict(a=dict(x=1, y=2), b=3), dict(a=dict(y=4)))
    {'a': {'x': 1, 'y': 4}, 'b': 3}
    >>> merged(dict(a=dict(x=1, y=2)), dict(a=dict(_delete_=True, z=4)))
    {'a': {'z': 4}}
    """
    found = dict(base)
    for key, value in own.items():
        if isinstance(value, Mapping):
            value = dict(value)
            below = {} if value.pop("_delete_", False) else found.get(key, {})
            if not isinstance(below, Mapping):
                raise TypeError(
                    f"{where}{key} is a dict, and {below!r} in the base: dict(_delete_=True, ...) takes its place"
                )
            value = merged(below, value, f"{where}{key}.")
        found[key] = value
    return found


def _paths(value: ast.expr) -> list[str]:
    try:
        given = ast.literal_eval(value)
    except ValueError:
        given = None
    paths = list(given) if isinstance(given, list | tuple) else [given]
    if not all(isinstance(each, str) for each in paths):
        raise ValueError(f"_base_ is a path or a list of them, written out; got {ast.unparse(value)}")
    return paths


class _Base(dict):
    """Settings of the bases, whose names are attributes, too."""

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError as error:
            raise AttributeError(f"the base has no {name!r}") from error
        return _Base(value) if isinstance(value, dict) else value

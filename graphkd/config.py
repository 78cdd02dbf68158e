"""Read configs of graphs and links: Python files of settings over a `_base_`, as OpenMMLab writes them.

What mmengine reads of such files is read alike, without mmengine; its other syntax (`read_base`, YAML, `{{_base_.x}}`,
variables of the environment) is not.
"""

from __future__ import annotations

import ast
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from graphkd.shipped import CONFIGS


class _Fields(dict[str, Any]):
    """Fields of a base, for `_base_.student.hidden` in the file over it."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"the base has no {name}") from error


def read_fields(path: str | Path, passed: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the settings of a config over those of its bases: a `dict` is merged unless it has `_delete_=True`.

    A base is a path beside the file, or a name, `_base_ = "graphkd::default/cora.py"`. `{{fileDirname}}` is the folder
    of the file that it stands in.

    Raises:
        FileNotFoundError: no such file or base.
        ValueError: a file leads back to itself, or two bases hold the same setting.
        Exception: a config is Python, and whatever running it can raise.
    """
    path = Path(path).resolve()
    if path in passed:
        raise ValueError(f"{path} is its own base")
    tree = ast.parse(path.read_text(encoding="utf-8").replace("{{fileDirname}}", path.parent.as_posix()), str(path))
    bases = [node.value for node in tree.body if isinstance(node, ast.Assign) and _is_base(node)]
    tree.body = [node for node in tree.body if not (isinstance(node, ast.Assign) and _is_base(node))]
    named = ast.literal_eval(bases[0]) if bases else []
    below = _Fields()
    for name in [named] if isinstance(named, str) else named:
        file = CONFIGS.find(name) if "::" in name else path.parent / name
        found = read_fields(file, (*passed, path))
        if twice := below.keys() & found.keys():
            raise ValueError(f"{path}: two bases hold {', '.join(sorted(twice))}")
        below |= _shown(found)
    names: dict[str, Any] = {"_base_": below}
    exec(compile(tree, str(path), "exec"), names)
    own = {key: value for key, value in names.items() if not key.startswith("_")}
    own = {key: value for key, value in own.items() if not isinstance(value, FunctionType | ModuleType)}
    return _over(own, below)


def _is_base(node: ast.Assign) -> bool:
    return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_base_"


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return _Fields({key: _shown(each) for key, each in value.items()})
    return type(value)(map(_shown, value)) if isinstance(value, list | tuple) else value


def _over(own: Any, below: Any) -> Any:
    """`own` over `below`, as plain dicts, neither of them changed."""
    if isinstance(own, list | tuple):
        return type(own)(_over(each, None) for each in own)
    if not isinstance(own, dict):
        return own
    kept = below if isinstance(below, dict) and not own.get("_delete_") else {}
    new = {key: _over(each, kept.get(key)) for key, each in own.items() if key != "_delete_"}
    return {**{key: _over(each, None) for key, each in kept.items()}, **new}

"""Configs that come with a package, by name: `densekd::seg/cwd/digits.py`, as `mmseg::pspnet/...` names those of mmseg.

In a clone they lie in `configs/` beside the package; a wheel carries them in its folder `.mim/configs`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class Shipped:
    """The configs of a package.

    Args:
        package: its name, which stands before `::`.
        rooms: folders of `configs/` in which names begin; the first one's may be left out.
        table: names of configs that are no files, but rows of a table.
    """

    def __init__(self, package: str, rooms: tuple[str, ...], table: Iterable[str] = ()) -> None:
        self.package, self.rooms, self.table = package, rooms, frozenset(table)

    @cached_property
    def folder(self) -> Path:
        """Where they lie.

        Raises:
            FileNotFoundError: the package was installed without them.
        """
        spec = find_spec(self.package)
        home = Path((spec and spec.origin) or "").parent
        for folder in (home / ".mim" / "configs", home.parent / "configs"):
            if (folder / self.rooms[0]).is_dir():
                return folder
        raise FileNotFoundError(f"{self.package} is here without its configs: install it with pip, or from a clone")

    @cached_property
    def names(self) -> list[str]:
        """All names, sorted, without the package's."""
        files = (file for room in self.rooms for file in (self.folder / room).rglob("*.py"))
        return sorted({file.relative_to(self.folder).as_posix() for file in files} | self.table)

    def find(self, name: str) -> Path:
        """Return the path of a config, with or without the package's name before it and `.py` behind it.

        The path of a row of the table is where its file would lie.

        Raises:
            FileNotFoundError: there is no such config; the message names the nearest.
        """
        other, marked, _ = name.partition("::")
        if marked and other != self.package:
            raise FileNotFoundError(f"config {name} is of {other}; this reads files and {self.package}::...")
        short = name.removeprefix(f"{self.package}::").removesuffix(".py") + ".py"
        for found in (short, f"{self.rooms[0]}/{short}"):
            path = self.folder / found
            if found in self.table or (path.is_file() and path.resolve().is_relative_to(self.folder.resolve())):
                return path
        known = [each.removeprefix(f"{self.rooms[0]}/") for each in self.names]
        near = get_close_matches(short.removeprefix("configs/"), known + self.names, 1, cutoff=0.75)
        hint = f"; did you mean {self.package}::{near[0]}?" if near else ""
        raise FileNotFoundError(f"there is no config {name}{hint}")

    def argument(self, text: str) -> Path:
        """For `add_argument(type=...)`: the path of a file, or of a config by its name."""
        try:
            return Path(text) if Path(text).is_file() else self.find(text)
        except FileNotFoundError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    def matching(self, pattern: str) -> list[str]:
        """Return the names that a pattern like `seg/*/digits.py` stands for; `configs/` may stand before it.

        Raises:
            FileNotFoundError: none does.
        """
        short = pattern.removeprefix(f"{self.package}::").removeprefix("configs/").removesuffix(".py") + ".py"
        found = [name for name in self.names if fnmatch(name, short)]
        if not found:
            raise FileNotFoundError(f"no config of {self.package} is called like {pattern}")
        return [f"{self.package}::{name}" for name in found]


def add_names(reader: Any, shipped: Shipped) -> None:
    """Let mmengine's `Config` class find a base such as `_base_ = 'densekd::seg/cwd/digits.py'`.

    Its parts keep the scope that they have where they lie: mmengine would have them looked up in the package's alone.
    """
    plain = reader._get_cfg_path
    if shipped.package in getattr(plain, "packages", ()):
        return

    def _get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if cfg_path.startswith(f"{shipped.package}::"):
            return str(shipped.find(cfg_path)), None
        return plain(cfg_path, filename)

    _get_cfg_path.packages = (*getattr(plain, "packages", ()), shipped.package)  # type: ignore[attr-defined]
    reader._get_cfg_path = staticmethod(_get_cfg_path)

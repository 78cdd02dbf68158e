"""Old names keep working for one version, with a warning that names the new one."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES: dict[str, str] = {}
"""New names of modules by their old ones."""


def moved_modules(table: Mapping[str, str]) -> None:
    """Let `import old` import the new module and warn.

    Args:
        table: new full names by old ones.
    """
    MODULES.update(table)
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())  # last: only for names that no other finder knows


def moved_parts(module: str, table: Mapping[str, str]) -> None:
    """Let `from old import part` import the part from its new place and warn, where the package has the module's name.

    An import of `package.part` sets `package.part` to the module, and would hide a function of that name.

    Args:
        module: old full name of the module.
        table: by old name of a part the new full name.
    """
    old: Any = ModuleType(module)
    old.__getattr__ = lambda name: moved_name(module, name, table)
    sys.modules[module] = old


def moved_name(module: str, name: str, table: Mapping[str, str]) -> Any:
    """Return the object of an old name and warn; for a module's `__getattr__`.

    Args:
        module: `__name__` of the module that is accessed.
        name: the name that it does not have.
        table: by old name the new full name, `package.module.name`.

    Raises:
        AttributeError: it is no old name either.
    """
    if name not in table:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home, _, new = table[name].rpartition(".")
    warn_renamed(f"{module}.{name}", table[name], stacklevel=3)
    return getattr(importlib.import_module(home), new)


def warn_renamed(old: str, new: str, stacklevel: int) -> None:
    """Warn that something has another name now; `stacklevel` counts from the caller, as that of `warnings.warn`."""
    warnings.warn(
        f"{old} is now {new}; the old name is removed in the next version",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname in MODULES else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        warn_renamed(old, MODULES[old], stacklevel=2)  # frames of importlib do not count
        sys.modules[old] = importlib.import_module(MODULES[old])  # the import statement takes it from there


__all__ = ["moved_modules", "moved_name", "moved_parts", "warn_renamed"]

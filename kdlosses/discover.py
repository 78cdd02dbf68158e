"""Find parts by name: the modules of a package, what other packages offer, and `module:name`."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from typing import Any

from kdlosses.options import nearest


def discover(package: str, path: Iterable[str], table: Mapping[str, Any]) -> dict[str, Any]:
    """Import every module of a package, and return what these modules registered in `table`.

    A new part is one new file: its module registers it, and the package has it under its own name.

    Args:
        package: `__name__` of the package.
        path: its `__path__`.
        table: where the modules register what they define.
    """
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
    return {part.__name__: part for part in table.values() if part.__module__.startswith(f"{package}.")}


def definitions(package: str, path: Iterable[str]) -> dict[str, Any]:
    """Import every module of a package, and return the public functions and classes that these modules define.

    Args:
        package: `__name__` of the package.
        path: its `__path__`.

    Raises:
        ImportError: two modules define the same name.
    """
    found: dict[str, Any] = {}
    for module in pkgutil.iter_modules(path):
        home = importlib.import_module(f"{package}.{module.name}")
        for name, part in vars(home).items():
            if name.startswith("_") or getattr(part, "__module__", None) != home.__name__:
                continue
            if name in found:
                raise ImportError(f"{name!r} is defined in {found[name].__module__} and in {home.__name__}; rename one")
            found[name] = part
    return found


@functools.cache
def load_entry_points(kind: str) -> None:
    """Import the entry points of the group `graphdensekd.<kind>` of all installed packages, once.

    Groups: `losses`, `recipes`, `teachers`, `methods`. An entry point names a module, or something in one, that
    registers its parts when it is imported. This runs when an unknown name is looked up, so that imports stay fast.
    """
    from importlib.metadata import entry_points  # slow to import

    for entry in entry_points(group=f"graphdensekd.{kind}"):
        entry.load()


def check_free(what: str, name: str, table: Mapping[str, Any]) -> None:
    """Raise ValueError if a part of this name is registered already."""
    if name in table:
        raise ValueError(f"{what} {name!r} is registered already, by {table[name].__module__}")


def find(what: str, name: Any, table: Mapping[str, Any], group: str | None = None) -> Any:
    """Return a part by name: one of a table, one that an installed package offers, or what `module:name` imports.

    Args:
        what: the kind of part, for errors.
        name: see above.
        table: the registered parts by name.
        group: the entry point group to load where the table has no such name, see `load_entry_points`.

    Raises:
        KeyError: no part has this name; the message names the nearest.
        ValueError: see `imported`.

    >>> find("loss", "kll", {"kl": None})
    Traceback (most recent call last):
    KeyError: "no loss is called 'kll'; did you mean 'kl'?"
    """
    if isinstance(name, str) and ":" in name:
        return imported(what, name)
    if group and str(name) not in table:
        load_entry_points(group)
    if not isinstance(name, str) or name not in table:
        raise KeyError(f"no {what} is called {name!r}; {nearest(str(name), table)}")
    return table[name]


class FromFile(str):
    """A name that was read from a file: what it names is not imported, because a file may come from anybody."""


def imported(what: str, name: str) -> Any:
    """Import and return the object that `module:name` names.

    Args:
        what: the kind of part, for the error.
        name: such as `my_losses:focal_kd`.

    Raises:
        ValueError: it has another form, or comes from a file, see `FromFile`; there is no such module, or nothing of
            that name in it.

    >>> imported("loss", "math:sqrt")(4.0)
    2.0
    """
    if isinstance(name, FromFile):
        raise ValueError(
            f"{what} {str(name)!r} is named in a file, from which no code is imported: set the {what} again"
        )
    module, _, attribute = name.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"{what} {name!r}: name your own as 'module:name', such as 'my_module:my_{what}'")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if not (module + ".").startswith(f"{error.name}."):  # it is there, and imports something that is not
            raise
        raise ValueError(f"{what} {name!r}: no module named {error.name!r}; add its folder to PYTHONPATH") from error
    if not hasattr(found, attribute):
        raise ValueError(f"{what} {name!r}: {module} has no {attribute!r}; {nearest(attribute, vars(found))}")
    return getattr(found, attribute)

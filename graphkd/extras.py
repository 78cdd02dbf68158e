"""Optional dependencies: name the extra to install instead of a bare ModuleNotFoundError."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kdlosses.extras import extra_of


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
        package, extra = extra_of(error)
        if extra is None:
            raise
        raise ImportError(f"{what} needs {package}: pip install graphdensekd[{extra}]") from error

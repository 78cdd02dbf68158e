"""Other methods of one module, for a while."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def replaced(module: nn.Module, methods: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Other methods of one module, for as long as it lasts.

    >>> net = nn.Identity()
    >>> with replaced(net, {"forward": lambda x: x + 1}):
    ...     inside = net(1)
    >>> inside, net(1)
    (2, 1)
    """
    own = vars(module)
    before = {name: own[name] for name in methods if name in own}
    own.update(methods)
    try:
        yield
    finally:
        for name in methods:
            own.pop(name)
        own.update(before)

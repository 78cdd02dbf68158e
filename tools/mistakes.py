"""A mistake in a call of a tool ends in one sentence, not in a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_sentence() -> Iterator[None]:
    """End the process with the message of an error that a call can cause."""
    try:
        yield
    except (ValueError, TypeError, KeyError, ImportError, OSError) as error:
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        raise SystemExit(message or type(error).__name__) from error

"""How a command ends where its call is wrong: in one sentence, without a traceback."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from kdlosses.extras import extra_of


@contextmanager
def one_sentence(where: Path | None = None) -> Iterator[None]:
    """End the program with the message of an error about what was given: of values, files, names, numbers or packages.

    As a decorator, `@one_sentence()`, around the `main` of a command; as a context around imports that need an extra.
    `where` is the file that the message begins with. The traceback is printed, too, where the environment sets
    `KD_TRACEBACK`.

    >>> with one_sentence():
    ...     raise KeyError("no graph is called 'core'")
    Traceback (most recent call last):
    SystemExit: no graph is called 'core'
    """
    try:
        yield
    except ModuleNotFoundError as error:
        told = "pip install" in str(error)  # it says itself what to do
        package, extra = extra_of(error)
        what = f"there is no package {error.name!r} here; install it with pip, see the README"
        if extra is not None:
            what = f"this needs {package}: pip install 'graphdensekd[{extra}]'"
        what = str(error) if told else what
        raise _end(where, error, what) from error
    except OSError as error:
        known = error.strerror and error.filename is not None
        raise _end(where, error, f"{error.filename}: {error.strerror}" if known else str(error)) from error
    except (FloatingPointError, ImportError, KeyError, TypeError, ValueError) as error:
        named = isinstance(error, KeyError) and error.args  # whose string is quoted
        raise _end(where, error, str(error.args[0] if named else error)) from error


def _end(where: Path | None, error: Exception, message: str) -> SystemExit:
    if os.environ.get("KD_TRACEBACK"):
        raise error
    sentence = " ".join(message.split()) or type(error).__name__
    return SystemExit(sentence if where is None else f"{where}: {sentence}")


def whole(least: int) -> Callable[[str], int]:
    """For `add_argument(type=...)`: a whole number from `least`.

    >>> whole(1)("0")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: expected a whole number from 1, got '0'
    """

    def read(text: str) -> int:
        try:
            found = int(text)
        except ValueError:
            found = least - 1
        if found < least:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
        return found

    return read


def positive(text: str) -> float:
    """For `add_argument(type=...)`: a number above 0.

    >>> positive("nan")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: expected a number above 0, got 'nan'
    """
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return found


def place_to_write(path: Path, new: bool) -> Path:
    """The path, if a folder can be written there; leaves nothing behind.

    Args:
        path: of the folder.
        new: whether it must not exist yet.

    Raises:
        OSError: something is in the way, or writing is not allowed.
    """
    if path.exists() and (new or not path.is_dir()):
        what = "exists" if path.is_dir() else "is a file"
        raise FileExistsError(f"{path} {what}; choose another folder, or remove it")
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".try-", dir=there):
            pass
    except OSError as error:
        raise OSError(f"{path} cannot be written, {there}: {error.strerror}; choose another place") from error
    return path

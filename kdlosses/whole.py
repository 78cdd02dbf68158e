"""Atomic writes of files and folders, shared by both packages and the tools."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ModuleNotFoundError:  # Windows: what killed writers leave stays
    fcntl = None  # type: ignore[assignment]


@contextmanager
def whole(path: str | Path, folder: bool = False) -> Iterator[Path]:
    """Yield the path of a draft next to `path`; it replaces `path` atomically when the block ends without an error.

    Each draft is a new one, so that several processes may write the same `path`: the last one to finish stands. A
    killed process leaves `path` as it was, and a scratch folder that the next writer of `path` removes.

    Args:
        path: file or folder to write; its parents are made.
        folder: the draft is a folder, and is there already.

    Raises:
        OSError: it cannot be written, because the disk is full, for example; what was at `path` is as it was.

    >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with whole(target) as draft:
    ...     _ = draft.write_text("complete")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('complete', 1)
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        scratch, lock = _scratch(path)
    except OSError as error:
        raise _unwritten(path, error) from error
    try:
        draft = scratch / path.name
        if folder:
            draft.mkdir()
        yield draft
        if folder and path.exists():
            os.replace(path, scratch / "old")
        os.replace(draft, path)
    except Exception as error:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":  # that is how it names a full disk
            raise _unwritten(path, error) from error
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _unwritten(path: Path, error: Exception) -> OSError:
    why = f"{path} was not written ({error}): free some space or choose another folder; what was there is unchanged"
    code = error.errno if isinstance(error, OSError) else None
    return OSError(code, why) if code else OSError(why)


def _scratch(path: Path) -> tuple[Path, int | None]:
    """A new folder next to `path`, locked for as long as this process lives."""
    while True:
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        if fcntl is None:
            return scratch, None
        try:
            lock = os.open(scratch, os.O_RDONLY)
        except FileNotFoundError:  # another process swept it away before it was locked
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if scratch.exists():
            return scratch, lock
        os.close(lock)


def _sweep(path: Path) -> None:
    """Remove the scratch folders of processes that were killed."""
    for scratch in path.parent.glob(f".{glob.escape(path.name)}-????????"):
        if fcntl is None or not scratch.is_dir():
            continue
        try:
            lock = os.open(scratch, os.O_RDONLY)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(scratch, ignore_errors=True)
        except OSError:
            continue  # its process lives
        finally:
            os.close(lock)

"""Result logs: read them, write them whole, and note what a run ran on."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from kdlosses.whole import whole

ROOT = Path(__file__).resolve().parents[2]
"""The clone that this runs from; of an installed package, whatever folder it lies in."""
SCHEMA = 1

Log = dict[str, Any]


def read(path: Path) -> list[Log]:
    """Read all logs in a folder or a file; a file holds one log or a list of them.

    Raises:
        FileNotFoundError: there are none.
        ValueError: a log of a schema that this version does not know, or a damaged one.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    logs = []
    for file in files:
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{file} is damaged (no JSON: {error}): delete it, and run again what it held") from error
        logs += found if isinstance(found, list) else [found]
    if not all(isinstance(log, dict) for log in logs):
        raise ValueError(f"{path} holds no result logs: JSON objects, or a list of them")
    if not logs:
        below = sorted({file.parent.as_posix() for file in path.glob("*/*.json")})
        hint = f"; there may be some in {', '.join(below)}" if below else ""
        raise FileNotFoundError(f"no result logs in {path}{hint}")
    for log in logs:
        if log.get("schema") != SCHEMA:
            raise ValueError(
                f"{path}: a log of schema {log.get('schema')!r}, this tool reads schema {SCHEMA}: make it anew"
            )
    return logs


def write(path: Path, logs: Log | list[Log]) -> None:
    """Replace the file in one go: a reader sees the old or the new one whole, also of a process that is killed.

    Of two processes that write the same file the last one stands, runs of the other are not merged: give each its own.

    Raises:
        OSError: it cannot be written; a file that was there is as it was.
    """
    text = json.dumps(logs, indent=1) + "\n"
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8")


def versions(*distributions: str) -> dict[str, str]:
    """Return the versions of Python and of those distributions that are installed."""
    found = {"python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """Name the commit of the code, marked `-dirty` if it was changed since; None outside of a clone, or without git.

    Logs are no code: a run whose log replaces another one is not dirty for that.
    """
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    name = git("describe", "--always")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":(top,exclude)results")
    return f"{name}-dirty" if name and changed else name or None


def reset_peak_memory() -> None:
    """Start measuring `peak_memory` anew, where the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")  # documented in proc(5): resets the high-water mark


def peak_memory() -> int:
    """MiB at most allocated on the GPU, or else held by the whole process."""
    return torch.cuda.max_memory_allocated() >> 20 if torch.cuda.is_available() else peak_resident()


def peak_resident() -> int:
    """MiB of memory, not of a GPU, that the whole process held at most."""
    if sys.platform == "linux":
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(status["VmHWM"].split()[0]) >> 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20  # bytes, on macOS

"""Exact resume: a resumed run ends as the uninterrupted one, bit for bit."""

from __future__ import annotations

import os
import random
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from densekd.registry import HOOKS
from densekd.runs.workers import seed_by_position
from densekd.teacher import MovingAverage


@HOOKS.register_module()
class ExactResume(Hook):
    """Save the state of random generators and of moving-average teachers in each checkpoint, too.

    mmengine saves weights, optimiser, schedules and the position in the data. With this hook a run in one process, with
    a seed, on the CPU, ends with the same weights and scores whether or not it was interrupted. A validation that was
    due after the checkpoint is run first; validation does not change the random numbers of the training. Loader workers
    keep no state: they are seeded for each batch, see `densekd.runs.workers`; they must not persist from epoch to
    epoch.
    """

    priority = "LOWEST"  # restore last, after whatever other hooks draw

    def __init__(self) -> None:
        self._restored: dict[str, Any] | None = None
        self._validated = False
        self._before_validation: dict[str, Any] | None = None

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        # mmengine writes a checkpoint before the validation, and once more within it where the score is the best so far
        checkpoint["random"] = self._before_validation or random_state()
        checkpoint["validated"] = self._before_validation is not None
        weights = checkpoint["state_dict"]
        if is_model_wrapper(runner.model) and all(name.startswith("module.") for name in weights):
            # of mmengine's DDPStrategy, where its Runner writes the names of the plain model
            checkpoint["state_dict"] = {name.removeprefix("module."): value for name, value in weights.items()}
        checkpoint["averages"] = {
            name: {"steps": teacher.steps, "weights": teacher.model.state_dict()}
            for name, teacher in _averages(runner).items()
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        if not runner._resume:
            return
        lacking = [part for part in ("state_dict", "meta", "message_hub") if part not in checkpoint]
        if lacking or not isinstance(checkpoint, dict):
            raise ValueError(
                f"{runner._load_from} is not a checkpoint of a run, it has no {', '.join(lacking)}, and cannot be "
                "resumed. To start from its weights, set load_from instead"
            )
        self._restored = checkpoint.pop("random", None)
        self._validated = checkpoint.pop("validated", False)
        for name, state in checkpoint.pop("averages", {}).items():
            teacher = _averages(runner)[name]
            teacher.model.load_state_dict(state["weights"])
            teacher.steps = state["steps"]

    def before_train(self, runner: Runner) -> None:
        # starting an iterator draws a seed for workers; from the global generator that would shift all that follows
        runner.train_dataloader.generator = torch.Generator().manual_seed(runner.seed)
        if self._restored is not None:
            restore_random_state(self._restored)
            if not self._validated:
                self._catch_up_on_validation(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        # without `skip`, mmengine resumes in mid-epoch by drawing what was seen from the start again
        replays = not isinstance(runner.train_loop, EpochBasedTrainLoop) and not hasattr(loader.sampler, "skip")
        seed_by_position(loader, runner.seed, runner.rank, start=0 if replays else runner.iter)

    def before_val(self, runner: Runner) -> None:
        self._before_validation = random_state()

    def after_val(self, runner: Runner) -> None:
        if self._before_validation is not None:
            restore_random_state(self._before_validation)
            self._before_validation = None

    def _catch_up_on_validation(self, runner: Runner) -> None:
        """Validate if that was due right after the checkpoint: the best score and schedules by score need it."""
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, last = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        loop._decide_current_val_interval()
        due = done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)
        if runner.val_loop is not None and due:
            runner.val_loop.run()


class WholeFiles(LocalBackend):
    """mmengine's backend of local files with atomic writes: a killed process leaves the old file."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Raises:
            OSError: the file was not written, for example on a full disk; no part of it is left.
        """
        path = Path(filepath)
        draft = path.with_name(f".{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise OSError(f"{path} was not written: {error.strerror}. {FULL_DISK}") from error

    def put_text(self, obj: str, filepath: str | Path, encoding: str = "utf-8") -> None:
        """Write text, see `put`."""
        self.put(obj.encode(encoding), filepath)


FULL_DISK = "Free space there, then run the same command with --resume: it continues from the last whole checkpoint"


def write_whole_files() -> None:
    """Make mmengine write checkpoints atomically in this process, by `WholeFiles`."""
    register_backend("local", WholeFiles, force=True, prefixes="")


def checkpoints_in(work_dir: str | Path) -> list[Path]:
    """Return the checkpoints in the folder of a run, oldest first, those of the best scores last."""

    def order(path: Path) -> tuple[bool, int]:
        return path.name.startswith("best_"), int(re.findall(r"\d+", path.stem)[-1])

    found = Path(work_dir).glob("*.pth")
    return sorted((path for path in found if re.fullmatch(r"(best_.+_)?(iter|epoch)_\d+\.pth", path.name)), key=order)


def last_whole_checkpoint(work_dir: str | Path) -> Path | None:
    """Return the checkpoint to resume from: the one that `last_checkpoint` names, or else the newest whole one.

    Returns:
        None where no checkpoint was written yet.

    Raises:
        ValueError: there are checkpoints, but none is whole.
    """
    folder = Path(work_dir)
    pointer = folder / "last_checkpoint"
    said = pointer.read_text().strip() if pointer.is_file() else ""
    named = [Path(said), folder / Path(said).name] if said else []
    rest = [path for path in reversed(checkpoints_in(folder)) if not path.name.startswith("best_")]
    for path in (*named, *rest):
        if _is_whole(path):
            if said and path not in named:
                print_log(f"{pointer} names {said}, which is not whole: using {path}", logger="current", level=30)
            return path
    if said or rest:
        names = ", ".join(path.name for path in rest) or said
        raise ValueError(
            f"{folder} holds no whole checkpoint: {names} cut short or gone; use --overwrite to start anew"
        )
    return None


def _is_whole(path: Path) -> bool:
    """Whether a checkpoint has its end: a zip file's list of contents stands there."""
    try:
        with zipfile.ZipFile(path) as file:
            return bool(file.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's generators as plain values and tensors."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the generator that OpenMMLab's transforms draw from
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Set all generators to what `random_state` returned."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count() and state["cuda"]:
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])


def _averages(runner: Runner) -> dict[str, MovingAverage]:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    teachers = getattr(model, "teachers", {})
    return {name: teacher for name, teacher in teachers.items() if isinstance(teacher, MovingAverage)}

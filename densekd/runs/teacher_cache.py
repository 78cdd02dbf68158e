"""The hook that fills and opens the caches of teachers before the training."""

from __future__ import annotations

from typing import Any

from mmengine.dist import barrier, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from densekd.cache.fill import use
from densekd.cache.teacher import CachedTeacher
from densekd.registry import HOOKS
from densekd.runs.resume import random_state, restore_random_state


@HOOKS.register_module()
class TeacherCache(Hook):
    """Fill what is missing of the caches of a `densekd.Distiller` with `teacher_cache`, and open them.

    `densekd.prepare`, which `densekd train` uses, adds it. It draws no random numbers of the training: a run that fills
    its cache ends as one that finds it filled. Several processes fill a share each.

    Attributes:
        told: by name what `densekd.cache.fill.Filled` says, of all teachers; of this process's share.
    """

    def __init__(self) -> None:
        self.told: dict[str, float] = {}

    def before_train(self, runner: Runner) -> None:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        cached = [each for each in getattr(model, "teachers", {}).values() if isinstance(each, CachedTeacher)]
        if not cached:
            raise ValueError(
                "custom_hooks has densekd.TeacherCache, but the model has no cached teacher: give the "
                "densekd.Distiller teacher_cache='FOLDER', or remove the hook"
            )
        state = random_state()
        for teacher in cached:
            world = get_world_size()
            told = use(teacher, runner.train_dataloader.dataset, model.data_preprocessor, get_rank(), world)
            barrier()
            for store in (teacher.stores or {}).values():
                store.open()  # a damaged shard is found now, not in some later step
            teacher.model.to("cpu")  # it has no more to do
            for key, value in told._asdict().items():
                peak = key == "peak_megabytes"
                before = self.told.get(key, 0)
                self.told[key] = round(max(before, value) if peak else before + value, 1)
            print_log(
                f"teacher {teacher.name!r}: cache {teacher.options.path}, taps {', '.join(teacher.strides)}: "
                f"{told.images} images seen now in {told.seconds:.1f} s"
                f"{f', by process 0 of {world}' if world > 1 else ''}, {told.megabytes:.1f} MiB on disk, peak memory "
                f"of the process {told.peak_megabytes:.0f} MiB",
                logger="current",
            )
        restore_random_state(state)

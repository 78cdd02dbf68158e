"""Knowledge distillation for OpenMMLab's segmenters and detectors, from their own configs, and for any PyTorch model.

Write `type='densekd.Distiller'` around a model of any mmengine config, or run `densekd train` on the plain config. For
live modules and a training loop of one's own there is `densekd.Distillation`, which needs torch alone.
"""

from importlib import import_module
from typing import Any

from densekd.compat import mend_when_imported
from densekd.moved import NAMES
from kdlosses.extras import extra_of
from kdlosses.moved import moved_name

_HOME = {
    "Distiller": "densekd.mmlab.distiller",
    "Distillation": "densekd.plain.distillation",
    "fit": "densekd.plain.fit",
    "selfdistill": "densekd.plain.selfdistill",
    "federate": "densekd.plain.federate",
    "rank_students": "densekd.plain.ranking",
    "search_students": "densekd.plain.ranking",
    "BoundaryIoU": "densekd.metrics",
    "ExactResume": "densekd.runs.resume",
    "Taps": "densekd.taps.reader",
    "Teacher": "densekd.teacher",
    "default_taps": "densekd.taps.defaults",
    "load_weights": "densekd.checkpoint",
    "read_config": "densekd.mmlab.config",
    "distill": "densekd.mmlab.config",
    "control": "densekd.mmlab.config",
    "is_taught": "densekd.mmlab.config",
    "prepare": "densekd.runs.experiment",
    "train": "densekd.runs.experiment",
    "shutdown_distributed": "densekd.runs.experiment",
    "tune": "densekd.runs.tuning",
    "METHODS": "densekd.methods",
    "build_model": "densekd.mmlab.building",
}
__all__ = list(_HOME)

mend_when_imported()


def __getattr__(name: str) -> Any:
    """Import a public name on first access: OpenMMLab takes seconds to import."""
    if name not in _HOME:
        return moved_name(__name__, name, NAMES)
    try:
        return getattr(import_module(_HOME[name]), name)
    except ModuleNotFoundError as error:
        package, extra = extra_of(error)
        if package in ("mmengine", "mmcv", "mmseg", "mmdet"):
            raise ModuleNotFoundError(
                f"densekd.{name} needs {error.name}: pip install 'graphdensekd[{extra}]'", name=error.name
            ) from error
        raise


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

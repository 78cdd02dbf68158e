"""Patches for OpenMMLab's continuation (`onedl-*`): package names, mmdet3d 1.4 beside it, safe unpickling in mmengine.

Nothing is imported here: a package is patched when Python imports it.
"""

from __future__ import annotations

import inspect
import io
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any

_KEEPER = "mmengine.config.utils"  # the module that maps names of modules to names of distributions
_READER = "mmengine.config.config"
_HUB = "mmengine.hub.hub"
_STUB = "mmdet3d.models.detectors.mvx_two_stage"
_LOADER = "mmengine.runner.checkpoint"
_PICKLES = "mmengine.fileio.handlers.pickle_handler"
_VOLUMES = "mmseg.utils.io"
_FSDP = "mmengine._strategy.fsdp"

_OPERATORS = "mmcv._ext"
_HOW_TO_COMPILE = (
    "this needs the compiled operators of mmcv, which are not installed (segmentation runs without them; detection and "
    "bird's-eye view do not). Compile them, in about 7 minutes on 2 cores: pip install 'setuptools<82' wheel ninja "
    "psutil && MMCV_WITH_OPS=1 pip install --no-build-isolation --force-reinstall --no-deps --no-binary=:all: "
    "onedl-mmcv"
)

_RENAMED = {"mmseg": "onedl-mmsegmentation"}  # mmdet needs no patch: its distribution and module have the same name

_ACCEPTED = {"mmcv": ("2.2.0", "2.1.0"), "mmdet": ("3.4.0", "3.3.0")}
"""Versions that mmdet3d 1.4 accepts: below the first; the second is the newest of them."""


def mend_package_names() -> dict[str, str]:
    """Let mmengine find configs such as `mmseg::pspnet/...` where only the `onedl-*` package is installed.

    mmengine looks for the distribution `mmsegmentation`, which its continuation does not provide. A name is changed
    only where the original distribution is absent and the continuation is present.

    Returns:
        The names that were changed, module to distribution.

    Raises:
        ImportError, KeyError: mmengine has moved its table of names; this file must be revised.
    """
    names = sys.modules[_KEEPER].MODULE2PACKAGE
    mended = {}
    for module, replacement in _RENAMED.items():
        if not _installed(names[module]) and _installed(replacement):
            names[module] = mended[module] = replacement
    return mended


def add_config_names() -> None:
    """Let mmengine's `Config` read what is called `densekd::...`, and the rows of `densekd.pairs`."""
    from densekd.shipped import CONFIGS, read_rows
    from kdlosses.shipped import add_names

    reader = sys.modules[_READER].Config
    add_names(reader, CONFIGS)
    read_rows(reader)


def add_hub_names() -> None:
    """Let mmengine's `get_config` read what is called `densekd::...`."""
    from densekd.shipped import read_names

    hub: Any = sys.modules[_HUB]
    hub.get_config = read_names(hub.get_config, hub.Config)
    package: Any = sys.modules["mmengine.hub"]
    if hasattr(package, "get_config"):  # imported before densekd
        package.get_config = hub.get_config


@contextmanager
def versions_that_mmdet3d_accepts() -> Iterator[dict[str, str]]:
    """Report versions of mmcv and mmdet that mmdet3d accepts, while it is imported.

    Its last release, 1.4, refuses newer ones by an assertion alone. A log line says so; the true versions are restored
    afterwards, also after an error.

    Yields:
        The true versions of those packages that are newer than it accepts.
    """
    import mmcv
    import mmdet
    from mmengine.logging import print_log
    from mmengine.utils import digit_version

    packages = {"mmcv": mmcv, "mmdet": mmdet}
    newer = {
        name: package.__version__
        for name, package in packages.items()
        if digit_version(package.__version__) >= digit_version(_ACCEPTED[name][0])
    }
    for name in newer:
        packages[name].__version__ = _ACCEPTED[name][1]
    try:
        yield newer
    finally:
        for name, version in newer.items():
            packages[name].__version__ = version
    if newer:
        found = ", ".join(f"{name} {version} (it asks for < {_ACCEPTED[name][0]})" for name, version in newer.items())
        print_log(f"densekd: mmdet3d is used with {found}", logger="current")


def mend_tensor_mode() -> bool:
    """Implement `mode='tensor'` of mmdet3d's multi-sensor detectors, such as CenterPoint, where it is a stub.

    It runs the branches and the head on the points, as `mode='loss'` does before it reads the ground truth.

    Returns:
        Whether there was a stub to replace.
    """
    detector = sys.modules[_STUB].MVXTwoStageDetector
    if len(inspect.signature(detector._forward).parameters) > 1:
        return False

    def _forward(self: Any, batch_inputs_dict: dict, batch_data_samples: Any = None, **kwargs: Any) -> Any:
        metas = [sample.metainfo for sample in batch_data_samples or ()]
        _, features = self.extract_feat(batch_inputs_dict, metas)
        return self.pts_bbox_head(features)

    detector._forward = _forward
    return True


def guard_checkpoints() -> None:
    """Make every scheme of mmengine's checkpoint loader read weights without running code, see `densekd.checkpoint`."""
    from densekd.checkpoint import guard_loader

    guard_loader(sys.modules[_LOADER].CheckpointLoader)


def guard_pickles() -> None:
    """Make mmengine, and so the data sets of mmdet and mmdet3d, read pickles without running code in them."""
    handler: Any = sys.modules[_PICKLES].PickleHandler
    plain = handler.load_from_fileobj
    if hasattr(plain, "plain"):
        return

    def load_from_fileobj(self: Any, file: Any, **kwargs: Any) -> Any:
        from densekd.checkpoint import ALLOW, trusting
        from kdlosses.safe_pickle import loads

        if trusting():
            return plain(self, file, **kwargs)
        asked = sys._getframe(1).f_locals.get("file")  # mmengine.load knows the path and hands over its bytes alone
        name = asked if isinstance(asked, str) else getattr(file, "name", "a pickle")
        return loads(file.read(), f"data file {name}", allow=ALLOW, **kwargs)

    load_from_fileobj.plain = plain  # type: ignore[attr-defined]
    handler.load_from_fileobj = load_from_fileobj


def guard_volumes() -> None:
    """Make mmseg, which reads `.pkl` volumes without mmengine, read them without running code in them."""
    module: Any = sys.modules[_VOLUMES]
    plain = module.pickle

    def loads_volume(content: bytes) -> Any:
        from densekd.checkpoint import ALLOW, trusting
        from kdlosses.safe_pickle import loads

        return plain.loads(content) if trusting() else loads(content, "a volume (.pkl)", allow=ALLOW)

    if plain.__name__ == "pickle":
        module.pickle = SimpleNamespace(loads=loads_volume, __name__="guarded")


def mend_fsdp_resume() -> bool:
    """Let mmengine's FSDPStrategy resume an optimiser: it gives torch 2.1 and later its arguments in the old order.

    Returns:
        Whether there was something to mend.
    """
    module: Any = sys.modules[_FSDP]
    convert = module.FSDP.optim_state_dict_to_load
    if [*inspect.signature(convert).parameters][:1] != ["model"]:
        return False

    def load_optim_state_dict(self: Any, state_dict: dict) -> None:
        optimizer = self.optim_wrapper.optimizer
        self.optim_wrapper.load_state_dict(convert(self.model, optimizer, state_dict))

    module.FSDPStrategy.load_optim_state_dict = load_optim_state_dict
    return True


@contextmanager
def without_notices() -> Iterator[None]:
    """Suppress mmdet's OneDL notices at import; other lines are printed."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        yield
    print("".join(line for line in printed.getvalue().splitlines(True) if "OneDL" not in line), end="")


@contextmanager
def _afterwards(mend: Callable[[], object]) -> Iterator[None]:
    yield
    mend()


_MENDS: dict[str, Callable[[], Any]] = {
    _KEEPER: lambda: _afterwards(mend_package_names),
    _READER: lambda: _afterwards(add_config_names),
    _HUB: lambda: _afterwards(add_hub_names),
    "mmdet.datasets": without_notices,
    "mmdet.datasets.transforms": without_notices,
    "mmdet3d": versions_that_mmdet3d_accepts,
    _STUB: lambda: _afterwards(mend_tensor_mode),
    _LOADER: lambda: _afterwards(guard_checkpoints),
    _PICKLES: lambda: _afterwards(guard_pickles),
    _VOLUMES: lambda: _afterwards(guard_volumes),
    _FSDP: lambda: _afterwards(mend_fsdp_resume),
}
"""Context managers around the first execution of a module, by its name."""


def mend_when_imported() -> None:
    """Patch mmengine now if it is imported, and each module of `_MENDS` on import: importing them here is too slow."""
    mends = {_KEEPER: mend_package_names, _READER: add_config_names, _HUB: add_hub_names, _STUB: mend_tensor_mode}
    mends[_FSDP] = mend_fsdp_resume
    for name, mend in mends.items():
        if name in sys.modules:
            mend()
    for name, guard in {_LOADER: guard_checkpoints, _PICKLES: guard_pickles, _VOLUMES: guard_volumes}.items():
        if name in sys.modules:
            guard()
    if not any(isinstance(finder, _Mender) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Mender())


class _Mender(MetaPathFinder):
    """Import finder that executes the modules of `_MENDS` inside their context managers."""

    def __init__(self) -> None:
        self._looking: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name == _OPERATORS and PathFinder.find_spec(name, path) is None:
            raise ModuleNotFoundError(_HOW_TO_COMPILE, name=name)
        if name not in _MENDS or name in self._looking:
            return None
        self._looking.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._looking.discard(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Mended(spec.loader)
        return spec


class _Mended(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)  # other attributes of a loader, such as the source of the module

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        with _MENDS[module.__name__]():
            self.loader.exec_module(module)


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True

"""Mend what the maintained continuation of OpenMMLab (`onedl-*`) left behind."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from types import ModuleType

_KEEPER = "mmengine.config.utils"  # the module that maps names of modules to names of distributions

_RENAMED = {"mmseg": "onedl-mmsegmentation"}  # mmdet needs no mending: its distribution and module names are alike


def mend_package_names() -> dict[str, str]:
    """Let mmengine find configs such as `mmseg::pspnet/...` where only the `onedl-*` package is installed.

    mmengine asks for the distribution `mmsegmentation`, which its continuation does not provide. A name is changed only
    where the original distribution is absent and the continuation is present.

    Returns:
        The names that were changed, module to distribution.

    Raises:
        ImportError, KeyError: mmengine keeps its names elsewhere now, so this file must be revised.
    """
    names = sys.modules[_KEEPER].MODULE2PACKAGE
    mended = {}
    for module, replacement in _RENAMED.items():
        if not _installed(names[module]) and _installed(replacement):
            names[module] = mended[module] = replacement
    return mended


def mend_when_imported() -> None:
    """Call `mend_package_names` now if mmengine is imported, else once it is: importing it here would take too long."""
    if _KEEPER in sys.modules:
        mend_package_names()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


class _AfterImport(MetaPathFinder):
    """Finds the one module as Python itself would, and has it mended once it is executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _KEEPER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenMend(spec.loader)
        return spec


class _ThenMend(Loader):
    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        mend_package_names()


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True

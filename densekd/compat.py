"""Mend what the maintained continuation of OpenMMLab (`onedl-*`) left behind."""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec

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
    if find_spec("mmengine") is None:  # whoever uses densekd then is told what to install
        return {}
    from mmengine.config.utils import MODULE2PACKAGE

    mended = {}
    for module, replacement in _RENAMED.items():
        if not _installed(MODULE2PACKAGE[module]) and _installed(replacement):
            MODULE2PACKAGE[module] = mended[module] = replacement
    return mended


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True

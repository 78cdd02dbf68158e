"""Raw files of graphs that are pickles: read them, or check them before a library does, without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphkd.extras import needs_extra
from kdlosses.safe_pickle import Sealed, Standin, damaged, loads, settled

ALLOW = "unsafe=True (--unsafe)"


class _Sparse(Standin):
    """A sparse matrix of scipy: what its constructor takes, checked."""

    kind = ""

    def __setstate__(self, state: Any) -> None:
        self.parts = state

    def real(self) -> Any:
        with needs_extra("a sparse matrix"):
            from scipy import sparse
        part = settled(self.parts)
        shape = part.get("_shape", part.get("shape"))
        if self.kind.startswith("coo"):
            made = getattr(sparse, self.kind)((part["data"], part.get("coords") or (part["row"], part["col"])), shape)
        else:
            made = getattr(sparse, self.kind)((part["data"], part["indices"], part["indptr"]), shape)
            made.check_format(full_check=True)  # an index out of range is memory that is not the matrix's
        return made


_SPARSE: dict[str, type] = {
    f"scipy.sparse.{module}.{form}_{what}": Sealed(f"{form}_{what}", (_Sparse,), {"kind": f"{form}_{what}"})
    for form in ("csr", "csc", "coo")
    for module in (form, f"_{form}")
    for what in ("matrix", "array")
}


def read_pickle(path: Path, unsafe_name: str = ALLOW) -> Any:
    """Read a pickle of containers, arrays and sparse matrices, also one that Python 2 wrote.

    Raises:
        ValueError: it is damaged, or asks for anything else; nothing of it was executed.
    """
    return loads(path.read_bytes(), str(path), allow=unsafe_name, more=_SPARSE)


__all__ = ["ALLOW", "damaged", "read_pickle"]

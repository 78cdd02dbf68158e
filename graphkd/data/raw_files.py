"""Read or check pickled raw files of graphs without running code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphkd.extras import needs_extra
from kdlosses.safe_pickle import Sealed, Standin, loads, settled


class _Sparse(Standin):
    """Placeholder for a scipy sparse matrix, with checked constructor arguments."""

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


def read_pickle(path: Path, name: str | Path | None = None) -> Any:
    """Read a pickle of containers, arrays and sparse matrices, including those written by Python 2.

    Args:
        path: the file.
        name: what messages call it, if not by its path.

    Raises:
        ValueError: it is damaged, or contains anything else; nothing of it was executed.
    """
    return loads(path.read_bytes(), str(name or path), allow="unsafe=True (--unsafe)", more=_SPARSE)

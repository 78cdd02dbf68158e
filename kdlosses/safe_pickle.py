"""Read pickles of plain data: containers, numbers, strings and NumPy arrays. Code that a file may name is never run.

It stands here because both siblings read pickles, data sets and checkpoints, and neither imports the other. NumPy is
needed once a file holds an array, and not before.
"""

from __future__ import annotations

import _compat_pickle
import importlib.machinery
import io
import math
import pickle
import re
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

_SLOW = 1 << 26  # bytes up to which Python's own unpickler reads, which a damaged file cannot make allocate gigabytes


class Sealed(type):
    """A class whose attributes a pickle cannot set."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise UnpicklingError(f"it sets the attribute {name!r} of {cls.__name__}")


class Standin(metaclass=Sealed):
    """Placeholder for an object of a pickle; `real` builds the object once its state has been read and checked."""

    def __setstate__(self, state: Any) -> None:
        raise UnpicklingError(f"it gives {type(self).__name__} a state")

    def real(self) -> Any:
        raise UnpicklingError(f"it leaves a bare {type(self).__name__}")


class _NumPyArray(Standin):
    """`numpy.ndarray` itself, of which a pickle names the class alone."""


class _Dtype(Standin):
    def __init__(self, code: Any, align: Any = False, copy: Any = False) -> None:
        import numpy as np

        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([?bBhHiIlLqQefdgFD]|[biufcSUVO]\d{1,9})", code):
            raise UnpicklingError(f"it names the type {code!r} of an array")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        import numpy as np

        _, order, base, names, fields, size, *_ = state
        if names:
            parts = [fields[name] for name in names]
            formats, offsets = [part[0].dtype for part in parts], [part[1] for part in parts]
            self.dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": size})
        elif base:
            self.dtype = np.dtype((base[0].dtype, base[1]))
        elif order in ("<", ">"):
            self.dtype = np.dtype(order + self.dtype.str[1:])

    def real(self) -> Any:
        return self.dtype


class _Array(Standin):
    """`_reconstruct(ndarray, (0,), b"b")`, then a state."""

    def __init__(self, kind: Any, shape: Any, code: Any) -> None:
        if kind is not _NumPyArray or shape != (0,):
            raise UnpicklingError(f"it makes an array of shape {shape!r} before it holds any numbers")
        self.array: Any = None

    def __setstate__(self, state: Any) -> None:
        import numpy as np

        *_, shape, of, fortran, held = state
        dtype, count = of.dtype, math.prod(shape)
        whole = len(held) == (count if dtype.hasobject else count * dtype.itemsize)
        if not whole or (count and not dtype.itemsize) or min(shape, default=0) < 0:
            raise UnpicklingError(f"an array of shape {shape} is cut short")
        if dtype.hasobject and dtype != np.dtype(object):
            raise UnpicklingError("it holds an array of records with objects")
        self.array = np.ndarray.__new__(np.ndarray, (0,), "b")
        self.array.__setstate__((1, tuple(shape), dtype, bool(fortran), held))

    def real(self) -> Any:
        if self.array is None:
            raise UnpicklingError("an array without numbers")
        if self.array.dtype.hasobject:
            flat = self.array.ravel(order="K")
            for place, value in enumerate(flat):
                flat[place] = settled(value)
            self.array = flat.reshape(self.array.shape, order="F" if self.array.flags.fnc else "C")
        return self.array


class _Buffer(Standin):
    """`_frombuffer(bytes, dtype, shape, order)`."""

    def __new__(cls, held: Any, of: Any, shape: Any, order: Any = "C", *axes: Any) -> Any:
        import numpy as np

        array = np.frombuffer(held, of.dtype).reshape(shape, order="F" if order == "F" else "C")
        return array.transpose(np.argsort(axes[0])) if axes and axes[0] is not None else array


class _Scalar(Standin):
    """`scalar(dtype, bytes)`."""

    def __new__(cls, of: Any, held: Any = b"") -> Any:
        import numpy as np

        held = held.encode("latin-1") if isinstance(held, str) else held
        if of.dtype.hasobject or len(held) != of.dtype.itemsize:
            raise UnpicklingError("a number is cut short")
        return np.frombuffer(held, of.dtype)[0] if held else of.dtype.type()


class _Encoded(Standin):
    """`_codecs.encode(text, "latin1")`: how protocol 2 writes bytes."""

    def __new__(cls, text: str, codec: str = "latin1") -> Any:
        if codec not in ("latin1", "latin-1", "bytes"):
            raise UnpicklingError(f"it names the codec {codec!r}")
        return str.encode(text, "latin-1")


class _NoBytes(Standin):
    """`bytes()`: how protocol 2 writes none."""

    def __new__(cls) -> Any:
        return b""


class _Rebuilt(Standin):
    """`copyreg._reconstructor(kind, object, None)`: how protocols 0 and 1 make an object."""

    def __new__(cls, kind: Any, base: Any, state: Any) -> Any:
        if not (isinstance(kind, Sealed) and base is object and state is None):
            raise UnpicklingError(f"it makes a {kind!r}")
        return kind()


_CORES = ("numpy.core.", "numpy._core.")
ARRAYS: Mapping[str, type] = {
    "numpy.ndarray": _NumPyArray,
    "numpy.dtype": _Dtype,
    **{f"{core}multiarray._reconstruct": _Array for core in _CORES},
    **{f"{core}multiarray.scalar": _Scalar for core in _CORES},
    **{f"{core}numeric._frombuffer": _Buffer for core in _CORES},
    "_codecs.encode": _Encoded,
}
"""What stands in for NumPy's part of a pickle."""

_PLAIN: Mapping[str, type] = {
    **{f"builtins.{kind.__name__}": kind for kind in (list, dict, set, frozenset, tuple, complex, slice, object)},
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": defaultdict,
    "builtins.bytes": _NoBytes,
    "copyreg._reconstructor": _Rebuilt,
}


def settled(value: Any, seen: dict[int, Any] | None = None) -> Any:
    """Replace each `Standin` by its object; lists and dicts are changed in place."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return seen[id(value)][1]
    if isinstance(value, Standin):
        seen[id(value)] = value, value.real()  # holds on to the value: another must not get its id
    elif isinstance(value, tuple):
        parts = [settled(part, seen) for part in value]
        changed = any(part is not old for part, old in zip(parts, value))
        seen[id(value)] = value, (tuple(parts) if changed and type(value) is tuple else value)
    elif isinstance(value, list):
        seen[id(value)] = value, value
        for place, part in enumerate(value):
            if not isinstance(part, _LEAVES):
                value[place] = settled(part, seen)
    elif isinstance(value, dict):
        seen[id(value)] = value, value
        for key, part in value.items():
            if not isinstance(part, _LEAVES):
                value[key] = settled(part, seen)
    else:
        return value
    return seen[id(value)][1]


_LEAVES = (str, int, float, bytes, type(None))


class _Names:
    """Finds no class but those that are listed."""

    def __init__(self, *args: Any, known: Mapping[str, type], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.known = known

    def find_class(self, module: str, name: str) -> Any:
        module, name = _compat_pickle.NAME_MAPPING.get(
            (module, name), (_compat_pickle.IMPORT_MAPPING.get(module, module), name)
        )  # how Python 2 called it
        found = self.known.get(f"{module}.{name}")
        if found is None:
            raise _Foreign(f"{module}.{name}")
        return found


class _Careful(_Names, pickle._Unpickler):
    """In Python: what it holds grows with what it has read."""


class _Fast(_Names, pickle.Unpickler):
    """In C."""


class AsksForCode(ValueError):
    """Raised for a file that names code to run and was therefore not read."""


class _Foreign(UnpicklingError):
    """A name that plain data do not need."""


def loads(
    data: bytes,
    name: str,
    *,
    allow: str = "unsafe=True",
    more: Mapping[str, type] | None = None,
    encoding: str = "latin1",
    **options: Any,
) -> Any:
    """Read the pickle `data`.

    Args:
        data: the whole file.
        name: of the file, for messages.
        allow: how the caller lets its user run the code in a file, for messages; empty if it does not.
        more: by full name, what stands in for other classes, each a `Standin`.
        encoding: of strings that Python 2 wrote.
        **options: of `pickle.Unpickler`.

    Raises:
        ValueError: it is damaged, or (`AsksForCode`) it asks for anything but plain data; nothing of it was executed.

    >>> loads(pickle.dumps({"a": [1, 2.5]}), "plain.pkl")
    {'a': [1, 2.5]}
    >>> loads(pickle.dumps(print), "code.pkl")
    Traceback (most recent call last):
    kdlosses.safe_pickle.AsksForCode: code.pkl was not read: it asks for code besides plain data (builtins.print), ...
    """
    kind: Any = _Careful if len(data) <= _SLOW else _Fast
    known = {**_PLAIN, **ARRAYS, **(more or {})}
    try:
        return settled(kind(io.BytesIO(data), known=known, encoding=encoding, **options).load())
    except _Foreign as error:
        raise refused(name, str(error), allow) from None
    except Exception as error:  # damaged bytes can fail in any of Python's and NumPy's ways
        raise damaged(name, error) from None


def refused(name: str, symbol: str, allow: str, plain: str = "plain data") -> ValueError:
    """Return the error for a file that names code to run; if that code does not exist, the error for a damaged file."""
    if not _exists(symbol):
        return damaged(name, f"it asks for {symbol}, which is not installed")
    advice = f". If you trust its origin, allow that with {allow}, which runs the code that the file names"
    return AsksForCode(
        f"{name} was not read: it asks for code besides {plain} ({symbol}), and nothing of it was executed"
        + (advice if allow else "")
    )


def damaged(name: str, why: object) -> ValueError:
    """Return the error for a damaged file."""
    why = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else why
    return ValueError(f"{name} is damaged or of another format ({why}): fetch or write it again")


def _exists(symbol: str) -> bool:
    """Whether a dotted name may stand for something here; no module is imported to find out."""
    found: Any = None  # the module or class so far, if it is imported
    path: Any = None  # where its modules lie
    for place, part in enumerate(symbol.split(".")):
        name = ".".join(symbol.split(".")[: place + 1])
        if not part.isidentifier():
            return False
        if name in sys.modules:
            found = sys.modules[name]
            path = getattr(found, "__path__", None)
        elif found is not None and hasattr(found, part):
            found, path = getattr(found, part), None
        elif place and path is None:
            return found is None  # in a module that is not imported it may be
        else:
            spec = importlib.machinery.PathFinder.find_spec(name, path)
            if spec is None:  # of a package that is not imported it may be an attribute
                return place > 0 and found is None
            found, path = None, spec.submodule_search_locations
    return True

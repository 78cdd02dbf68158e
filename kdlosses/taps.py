"""Record tensors of a model by module path, without changing the model."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Tap(NamedTuple):
    """Where to read: the output of a module, one item of it, a copy of it, or its input.

    >>> Tap.parse("backbone:2")
    Tap(path='backbone', item=2, of_input=False, copied=False)
    >>> Tap.parse("decode_head.conv_seg:in").of_input
    True
    """

    path: str
    item: int | None = None
    of_input: bool = False
    copied: bool = False

    @classmethod
    def parse(cls, spec: str) -> Tap:
        path, _, suffix = spec.partition(":")
        if not suffix and not spec.endswith(":"):
            return cls(path)
        if suffix == "in":
            return cls(path, of_input=True)
        if suffix == "copy":
            return cls(path, copied=True)
        if suffix.lstrip("-").isdigit():
            return cls(path, int(suffix))
        raise ValueError(
            f"tap {spec!r}: write 'path', 'path:i' for item i of a tuple, 'path:in' for the input, or 'path:copy' for "
            "a copy of what is overwritten later"
        )


def find(model: nn.Module, path: str) -> nn.Module:
    """Return the module at `path`; a wrong path raises `KeyError` that names the three nearest ones."""
    try:
        return model.get_submodule(path or "?")  # an empty path would be the model itself
    except AttributeError:
        names = [name for name, _ in model.named_modules() if name]
        near = difflib.get_close_matches(path, names, n=3, cutoff=0.0)
        raise KeyError(f"{type(model).__name__} has no module {path!r}; nearest: {', '.join(near)}") from None


class Taps:
    """Context manager that records the tensors at the taps of a model during one forward.

    Args:
        model: the model to record from.
        specs: taps, each `'path'` (output of a module), `'path:i'` (item i of a tuple), `'path:in'` (first input) or
            `'path:copy'` (a copy of the output, for what the model overwrites in place later); several of them joined
            by `+` are one tap, which yields the tensors of all in that order.
        stop_after: tensors that each tap yields in one forward. When all have been seen, the rest of the forward is
            skipped: a teacher need not run past its last tap.
        tensors: whether to keep the tensors; else only whether there were any.

    `taps[spec]` is a list of tensors: one for a plain output, several for a tuple or for a module that is called
    several times, as a detector's shared head is for each level.

    Raises:
        KeyError: no such module, before anything runs.
        RuntimeError: on reading a tap that never fired, or whose tensor was overwritten in place since.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    >>> with Taps(model, ["0", "1:in"]) as taps:
    ...     _ = model(torch.zeros(4, 2))
    >>> taps["0"][0].shape, taps["0"][0] is taps["1:in"][0]
    (torch.Size([4, 3]), True)
    """

    def __init__(
        self,
        model: nn.Module,
        specs: Iterable[str],
        stop_after: Mapping[str, int] | None = None,
        tensors: bool = True,
    ) -> None:
        self.model = model
        self._tensors = tensors
        self.specs = {spec: spec.split("+") for spec in specs}
        self.taps = {part: Tap.parse(part) for parts in self.specs.values() for part in parts}
        self.modules = {part: find(model, tap.path) for part, tap in self.taps.items()}
        self._stop_after = stop_after
        self._seen: dict[str, list[tuple[Tensor, int]]] = {}
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> Taps:
        self._seen = {part: [] for part in self.modules}
        for spec, module in self.modules.items():
            if self.taps[spec].of_input:
                hook = module.register_forward_pre_hook(self._record_input(spec), with_kwargs=True)
            else:
                hook = module.register_forward_hook(self._record_output(spec))
            self._hooks.append(hook)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        return isinstance(error, _AllSeen)

    def __getitem__(self, spec: str) -> list[Tensor]:
        return [tensor for part in self.specs[spec] for tensor in self._of(part)]

    def silent(self) -> list[str]:
        """Taps that have recorded nothing."""
        return [part for part in self.modules if not self._seen[part]]

    def _of(self, spec: str) -> list[Tensor]:
        if not self._seen[spec]:
            raise RuntimeError(never_fired(self.model, spec))
        for tensor, version in self._seen[spec]:
            if tensor._version != version:
                raise RuntimeError(
                    f"tap {spec!r} of {type(self.model).__name__} was overwritten in place after it was read, as by an"
                    " inplace activation; tap the module that contains it and its activation instead, or a copy:"
                    f" '{self.taps[spec].path}:copy'"
                )
        return [tensor for tensor, _ in self._seen[spec]]

    def _record_output(self, spec: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            self._record(spec, output)

        return hook

    def _record_input(self, spec: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self._record(spec, args[0] if args else next(iter(kwargs.values())))

        return hook

    def _record(self, spec: str, value: Any) -> None:
        if not self._tensors:
            self._seen[spec] = [(_NOTHING, 0)]
            return
        _, item, _, copied = self.taps[spec]
        if item is not None:
            if not isinstance(value, list | tuple) or not -len(value) <= item < len(value):
                size = f"{len(value)} items" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
                raise IndexError(f"tap {spec!r}: there is no item {item}, the module yields {size}")
            value = value[item]
        tensors = list(value) if isinstance(value, list | tuple) else [value]
        if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
            kinds = ", ".join(type(tensor).__name__ for tensor in tensors)
            raise TypeError(
                f"tap {spec!r} yields {kinds or 'nothing'} instead of tensors; choose an item with 'path:i'"
            )
        if copied:
            tensors = [tensor.clone() for tensor in tensors]
        self._seen[spec] += [(tensor, tensor._version) for tensor in tensors]
        if self._stop_after and all(self._count(key) >= n for key, n in self._stop_after.items()):
            raise _AllSeen

    def _count(self, spec: str) -> int:
        return sum(len(self._seen[part]) for part in self.specs[spec])


_NOTHING = torch.empty(0)


def never_fired(model: nn.Module, spec: str, others: Sequence[str] = ()) -> str:
    """Return the message for a tap that recorded nothing: why, and which tap to use instead.

    Args:
        model: the model that was run.
        spec: the tap.
        others: paths of modules that were called.
    """
    path = Tap.parse(spec).path
    module = find(model, path)
    inside = [name for name in others if name.startswith(f"{path}.")]
    if isinstance(module, nn.ModuleList | nn.ModuleDict):
        parts = "+".join(f"{path}.{name}" for name, _ in module.named_children())
        why = f"a {type(module).__name__} is never called itself; tap its parts: {parts!r}"
    elif inside:
        why = f"its forward was called as a plain function; tap a module inside of it: {', '.join(inside[-3:])}"
    else:
        why = (
            "its forward did not call that module (heads that serve training only, such as mmseg's auxiliary_head, do "
            "not run in mode='tensor')"
        )
        near = difflib.get_close_matches(path, others, n=3, cutoff=0.0)
        why += f"; nearest that were called: {', '.join(near)}" if near else ""
    return f"tap {spec!r} of {type(model).__name__} never fired: {why}"


class _AllSeen(Exception):
    """Ends a forward after its last tap."""

"""Record tensors of a model by module path, without changing the model."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Tap(NamedTuple):
    """Where to read: the output of a module, one entry or item of it, a copy of it, or its input.

    >>> Tap.parse("backbone:2")
    Tap(path='backbone', item=2, of_input=False, copied=False, key='')
    >>> Tap.parse("decode_head.conv_seg:in").of_input
    True
    >>> Tap.parse(":hidden_states:3")  # of the output of the whole model
    Tap(path='', item=3, of_input=False, copied=False, key='hidden_states')
    """

    path: str
    item: int | None = None
    of_input: bool = False
    copied: bool = False
    key: str = ""

    @classmethod
    def parse(cls, spec: str) -> Tap:
        path, *suffixes = spec.split(":")
        if not suffixes or spec == ":":
            return cls(path)
        if suffixes == ["in"]:
            return cls(path, of_input=True)
        copied = suffixes[-1] == "copy"
        rest = suffixes[:-1] if copied else suffixes
        item = int(rest.pop()) if rest and rest[-1].lstrip("-").isdigit() else None
        key = rest.pop() if rest and rest[-1].isidentifier() and rest[-1] != "in" else ""
        if not rest:
            return cls(path, item, False, copied, key)
        raise ValueError(
            f"tap {spec!r}: write 'path', 'path:i' for item i of a tuple, 'path:key' for an entry of a dict, "
            "'path:key:i' for an item of that, 'path:in' for the input, or 'path:copy' for a copy of what is "
            "overwritten later; an empty path is the model's own output, as ':logits'"
        )


def find(model: nn.Module, path: str, whole: bool = False) -> nn.Module:
    """Return the module at `path`; a wrong path raises `KeyError` that names the three nearest ones.

    Args:
        model: the model.
        path: names of modules, joined by dots.
        whole: whether an empty path is the model itself.
    """
    if whole and not path:
        return model
    try:
        return model.get_submodule(path or "?")
    except AttributeError:
        names = [name for name, _ in model.named_modules() if name]
        near = difflib.get_close_matches(path, names, n=3, cutoff=0.0)
        raise KeyError(f"{type(model).__name__} has no module {path!r}; nearest: {', '.join(near)}") from None


class Taps:
    """Context manager that records the tensors at the taps of a model during one forward.

    Args:
        model: the model to record from.
        specs: taps, each `'path'` (output of a module), `'path:i'` (item i of a tuple), `'path:key'` (an entry of a
            dict, or an attribute, such as `logits` of transformers' outputs), `'path:key:i'`, `'path:in'` (first
            input) or `'path:copy'` (a copy of the output, for what the model overwrites in place later). An empty path
            is the model: `':logits'`, or `':'` for an output that is a tensor. Several of them joined by `+` are one
            tap, which yields the tensors of all in that order.
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
        self.modules = {part: find(model, tap.path, part.startswith(":")) for part, tap in self.taps.items()}
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
        _, item, _, copied, key = self.taps[spec]
        if key:
            value = _entry(spec, key, value)
        if item is not None:
            if not isinstance(value, list | tuple) or not -len(value) <= item < len(value):
                size = f"{len(value)} items" if isinstance(value, list | tuple) else f"a {type(value).__name__}"
                raise IndexError(f"tap {spec!r}: there is no item {item}, the module yields {size}")
            value = value[item]
        tensors = list(value) if isinstance(value, list | tuple) else [value]
        if not tensors or not all(isinstance(tensor, Tensor) for tensor in tensors):
            kinds = ", ".join(type(tensor).__name__ for tensor in tensors)
            entries = [f"'{spec.removesuffix(':')}:{name}'" for name in _keys(value)]
            raise TypeError(
                f"tap {spec!r} yields {kinds or 'nothing'} instead of tensors; choose "
                + (f"an entry: {', '.join(entries)}" if entries else "an item with 'path:i'")
            )
        if copied:
            tensors = [tensor.clone() for tensor in tensors]
        self._seen[spec] += [(tensor, tensor._version) for tensor in tensors]
        if self._stop_after and all(self._count(key) >= n for key, n in self._stop_after.items()):
            raise _AllSeen

    def _count(self, spec: str) -> int:
        return sum(len(self._seen[part]) for part in self.specs[spec])


_NOTHING = torch.empty(0)


def _entry(spec: str, key: str, value: Any) -> Any:
    """An entry of a dict, or an attribute of an object."""
    found = value.get(key) if isinstance(value, Mapping) else getattr(value, key, None)
    if found is None:
        known = ", ".join(_keys(value)) or "no names"
        raise KeyError(
            f"tap {spec!r}: the output, a {type(value).__name__}, has no {key!r}; it has {known}"
            + ("; transformers' models yield them with output_hidden_states=True" if key == "hidden_states" else "")
        )
    return found


def _keys(value: Any) -> list[str]:
    """Names of the entries of a dict or of a named tuple."""
    names = value if isinstance(value, Mapping) else getattr(value, "_fields", ())
    return [name for name in names if isinstance(name, str)]


def never_fired(model: nn.Module, spec: str, others: Sequence[str] = ()) -> str:
    """Return the message for a tap that recorded nothing: why, and which tap to use instead.

    Args:
        model: the model that was run.
        spec: the tap.
        others: paths of modules that were called.
    """
    path = Tap.parse(spec).path
    module = find(model, path, spec.startswith(":"))
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


@contextlib.contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; the modes of all modules are restored afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Tensors in nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)


class _AllSeen(Exception):
    """Ends a forward after its last tap."""

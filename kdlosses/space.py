"""What a study searches: ranges of options, and entries of `distills` with other weights and temperatures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

from kdlosses.auto_weight import AutoWeight
from kdlosses.discover import find
from kdlosses.options import options_of
from kdlosses.registry import LOSSES


class Range(NamedTuple):
    """Numbers from `low` to `high`.

    Attributes:
        low: the least.
        high: the largest.
        log: whether they are drawn evenly on a logarithmic scale.
    """

    low: float
    high: float
    log: bool = False


Dimension = Range | Sequence[Any]
"""A range of numbers, or a list of choices: numbers, strings, True, False or None."""
Space = Mapping[str, Mapping[str, Dimension]]
"""By method the options that are searched."""

AUTO = "_auto"
"""Ends the name of a method whose weights are measured by gradients."""
FACTORS = Range(0.01, 100.0, log=True)
"""By which published weights are multiplied."""
TEMPERATURES = Range(0.25, 4.0, log=True)
"""By which published temperatures are multiplied."""
RATIOS = Range(0.1, 10.0, log=True)
"""How hard a measured weight pulls, the task being 1, see `kdlosses.auto_weight.AutoWeight`."""


def around_one(factors: Any, ratios: Any, temperatures: Any) -> dict[str, Range]:
    """Check the three ranges of `tune`; each must hold 1, what is published.

    >>> around_one((0.1, 10), RATIOS, TEMPERATURES)["factor"]
    Range(low=0.1, high=10.0, log=False)
    >>> around_one((2, 10), RATIOS, TEMPERATURES)
    Traceback (most recent call last):
    ValueError: factors must hold 1, with which it is tried first; got (2, 10)
    """
    found = {}
    for key, name, given in (
        ("factor", "factors", factors),
        ("ratio", "ratios", ratios),
        ("temperature", "temperatures", temperatures),
    ):
        found[key] = checked_range(name, given, least=0.0)
        if not found[key].low <= 1 <= found[key].high:
            raise ValueError(f"{name} must hold 1, with which it is tried first; got {given!r}")
    return found


def checked_range(name: str, given: Any, least: float = -math.inf) -> Range:
    """Return a range of numbers; TypeError or ValueError if it is none.

    >>> checked_range("factors", (0.1, 10, True))
    Range(low=0.1, high=10.0, log=True)
    >>> checked_range("factors", (10, 0.1))
    Traceback (most recent call last):
    ValueError: factors is a range (low, high) with low < high, got (10, 0.1)
    """
    if isinstance(given, str | Mapping) or not isinstance(given, Sequence) or not 2 <= len(given) <= 3:
        raise TypeError(f"{name} is a range (low, high) or (low, high, log), got {given!r}")
    low, high, log = (*given, False)[:3]
    if any(isinstance(each, bool) or not isinstance(each, Real) for each in (low, high)) or not isinstance(log, bool):
        raise TypeError(f"{name} is a range of two numbers, and of True where it is logarithmic, got {given!r}")
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"{name} is a range (low, high) with low < high, got {given!r}")
    if low < least or (log and low <= 0):
        bound = "above 0, as it is logarithmic" if log else f"from {least:g}"
        raise ValueError(f"{name} is {bound}, got {given!r}")
    return Range(float(low), float(high), log)


def reweighed(entry: Mapping[str, Any], factor: float = 1.0, heat: float = 1.0) -> dict[str, Any]:
    """An entry of `distills` with `factor` times its weight, and with `heat` times each temperature `tau` of its loss.

    Of a weight that is measured the ratio is multiplied.

    >>> reweighed(dict(loss=dict(type="kl", tau=4.0), weight=3), 0.5, 2.0)
    {'loss': {'type': 'kl', 'tau': 8.0}, 'weight': 1.5}
    >>> reweighed(dict(loss="mse"))
    {'loss': 'mse'}
    """
    found = dict(entry)
    if factor != 1:
        auto = AutoWeight.parse(found.get("weight", 1.0))
        found["weight"] = (
            factor * found.get("weight", 1.0)
            if auto is None
            else dict(type="auto", ratio=factor * auto.ratio, steps=len(auto.ratios))
        )
    if heat != 1:
        found["loss"] = heated(found["loss"], heat)
    return found


def heated(spec: Any, heat: float) -> Any:
    """The spec of a loss with `heat` times its temperature `tau`, and those of the losses inside of it.

    >>> heated("kl", 2.0), heated("mse", 2.0), heated(dict(type="until", loss="kl", stop=0.5), 2.0)
    ({'type': 'kl', 'tau': 2.0}, 'mse', {'type': 'until', 'loss': {'type': 'kl', 'tau': 2.0}, 'stop': 0.5})
    """
    if isinstance(spec, list | tuple):  # of the policy `stages`: until when, and which loss
        return type(spec)(heated(each, heat) for each in spec)
    if not isinstance(spec, str | Mapping):
        return spec
    found = dict(spec) if isinstance(spec, Mapping) else {"type": spec}
    kind = found.get("type")
    loss: Any = find("loss", kind, LOSSES, "losses") if isinstance(kind, str) else kind
    stated = options_of(loss).get("tau") if callable(loss) else None
    if stated is not None:
        tau = found.get("tau", stated.default)
        if isinstance(tau, Real) and not isinstance(tau, bool) and math.isfinite(tau):
            found["tau"] = heat * tau
    for key in ("loss", "losses"):
        if key in found:
            found[key] = heated(found[key], heat)
    return spec if found == (spec if isinstance(spec, Mapping) else {"type": spec}) else found


def has_temperature(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the loss of an entry, or one inside of it, has a temperature `tau`.

    >>> has_temperature([dict(loss="mse")]), has_temperature([dict(loss="mse"), dict(loss="kl")])
    (False, True)
    """
    return any(heated(entry["loss"], 2.0) != entry["loss"] for entry in entries)

"""The registry of policies of a run."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from densekd.policies.run import Policy
from kdlosses.discover import check_free, find
from kdlosses.options import check_known, typed

POLICIES: dict[str, type[Policy]] = {}
"""Every policy of a run by its name."""
P = TypeVar("P", bound=type[Policy])


def policy(name: str) -> Callable[[P], P]:
    """Register a policy of a run.

    Raises:
        ValueError: the name is taken.

    >>> @policy("nothing")
    ... class Nothing(Policy):
    ...     pass
    >>> POLICIES.pop("nothing") is Nothing
    True
    """

    def register(kind: P) -> P:
        check_free("policy of a run", name, POLICIES)
        kind.name = name
        POLICIES[name] = kind
        return kind

    return register


def build_policies(specs: Any) -> list[Policy]:
    """Build the policies of a run.

    Args:
        specs: a list of names, of `module:name` of classes of one's own, of dicts with either as `type` and options, or
            of policies, which are copied.

    Raises:
        KeyError: no policy of that name; the message names the nearest.
        TypeError: it is no such list, or a policy has no such option, or not of that type.
        ValueError: an option is out of range, or two policies decide which samples are drawn, or change the
            trained weights.
    """
    if isinstance(specs, str | Mapping) or not isinstance(specs, Sequence):
        raise TypeError(f"policies is a list, such as ['pruned'] or [dict(type='ddk', every=50)], got {specs!r}")
    found = [copy.deepcopy(each) if isinstance(each, Policy) else _built(each) for each in specs]
    drawing = [each.name for each in found if each.draws]
    if len(drawing) > 1:
        raise ValueError(f"the policies {' and '.join(drawing)} both decide which samples are drawn: give one of them")
    finishing = [each.name for each in found if type(each).finish is not Policy.finish]
    if len(finishing) > 1:
        raise ValueError(f"the policies {' and '.join(finishing)} both change the trained weights: give one of them")
    return found


def _built(spec: Any) -> Policy:
    if not isinstance(spec, str | Mapping) or (isinstance(spec, Mapping) and "type" not in spec):
        raise TypeError(f"a policy is its name, or a dict with the name as 'type' and options, got {spec!r}")
    options = {} if isinstance(spec, str) else {key: value for key, value in spec.items() if key != "type"}
    name = spec if isinstance(spec, str) else spec["type"]
    kind = find("policy of a run", name, POLICIES, "policies")
    check_known(f"policy {name!r}", options, inspect.signature(kind).parameters)
    return kind(**typed(f"policy {name!r}: ", kind, options))

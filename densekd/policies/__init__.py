"""Policies of a run: what changes the data, the weights or the student, one policy a file.

A policy of `kdlosses.policy` is a loss around a loss; one of these changes what a run trains with. They work alike in
`densekd.fit(policies=...)` and, by the hook `densekd.Policies`, in every config of OpenMMLab.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from densekd.policies.registry import POLICIES, build_policies, policy
from densekd.policies.run import Policy, Run, Seen
from kdlosses.discover import discover

_FOUND = discover(__name__, __path__, POLICIES)
globals().update(_FOUND)
__all__ = ["POLICIES", "Policy", "Run", "Seen", "build_policies", "policy", *sorted(_FOUND)]

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...

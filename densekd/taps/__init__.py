"""Taps: record tensors of a model by module path; default taps of known model families."""

from densekd.taps.reader import Tap, Taps, never_fired

__all__ = ["Tap", "Taps", "never_fired"]

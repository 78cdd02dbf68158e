"""The reader of taps, which both siblings share: see `kdlosses.taps`."""

from kdlosses.taps import Tap, Taps, at_rest, find, never_fired

__all__ = ["Tap", "Taps", "at_rest", "find", "never_fired"]

"""Read tensors out of a model by the path of the module that makes them; where models of known families are tapped."""

from densekd.taps.reader import Tap, Taps, find, never_fired

__all__ = ["Tap", "Taps", "find", "never_fired"]

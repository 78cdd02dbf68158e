"""Losses on features `(N, channels, *)`. One loss a file; file, function and registry key have one name."""

from kdlosses.feature.at import at
from kdlosses.feature.cosine import cosine
from kdlosses.feature.cwd import cwd
from kdlosses.feature.mse import mse
from kdlosses.feature.pkd import pkd

__all__ = ["at", "cosine", "cwd", "mse", "pkd"]

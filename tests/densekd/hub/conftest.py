"""What several tests of the hub work on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Squares on a ground, of random places and colours."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for n in range(24):
        pixels = np.full((40, 48, 3), random.integers(0, 256, 3), np.uint8)
        for top, left in random.integers(0, 32, (3, 2)):
            pixels[top : top + 12, left : left + 12] = random.integers(0, 256, 3)
        Image.fromarray(pixels).save(folder / f"{n:02}.png")
    return folder

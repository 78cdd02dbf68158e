"""Images without labels: found, named where broken, cropped in an order that a pause does not change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from densekd.hub.images import Crops, batches, broken_images, find_images, held_out, read_image


def painted(path: Path, colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_images_below_the_folder_are_found(tmp_path: Path) -> None:
    wanted = [painted(tmp_path / name) for name in ("a.png", "b/C.JPG", "b/d/e.webp")]
    (tmp_path / "notes.txt").write_text("no image")
    assert find_images(tmp_path) == sorted(wanted)


@pytest.mark.parametrize(("folder", "said"), [("none", "there is no folder"), (".", "no image in")])
def test_nothing_to_find(folder: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=said):
        find_images(tmp_path / folder)


def test_all_broken_images_are_named(tmp_path: Path) -> None:
    paths = [painted(tmp_path / f"{n}.jpg") for n in range(4)]
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(paths[1])
    paths[1].write_bytes(paths[1].read_bytes()[:3000])  # cut short
    paths[2].write_text("<html>")
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    paths.append(tmp_path / "deep.png")
    broken = broken_images(paths, threads=2)
    assert [*broken] == [paths[1], paths[2], paths[4]]
    assert all(str(path) in said for path, said in broken.items())
    assert "mode I" in broken[paths[4]]


def test_an_image_is_upright_and_red_first(tmp_path: Path) -> None:
    pixels = np.zeros((20, 10, 3), np.uint8)
    pixels[:, :, 0], pixels[:10, :, 2] = 200, 90
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right to see it upright
    Image.fromarray(np.rot90(pixels).copy()).save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(np.array(read_image(tmp_path / "turned.png")), pixels)


def test_a_grey_image_has_three_channels(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    (crop,) = batches(Crops([tmp_path / "grey.png"], (4, 4)), 1, 1)
    assert crop.shape == (1, 3, 4, 4)
    assert (crop == 77).all()


def test_crops_lie_in_the_image_and_keep_its_proportions(tmp_path: Path) -> None:
    """Where a pixel says where it is: rows in red, columns in green."""
    rows, columns = np.indices((120, 200))
    Image.fromarray(np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)).save(tmp_path / "where.png")
    crops = Crops([tmp_path / "where.png"], (24, 32), least=0.2)
    seen = set()
    for place in range(40):
        row, column, _ = crops[0, place].float()
        high, wide = row[-1, 0] - row[0, 0], (column[0, -1] - column[0, 0]).abs()
        aspect = (wide / 31) / (high / 23)  # of a pixel
        assert 0.7 < aspect < 1.4
        assert (wide + 2) * (high + 2) > 0.9 * 0.2 * 120 * 200
        seen.add(bool(column[0, -1] > column[0, 0]))
    assert seen == {True, False}  # flipped by chance
    whole = Crops([tmp_path / "where.png"], (24, 40), least=None)[0]
    assert whole[0, :, 0].tolist() == pytest.approx([2 + 5 * n for n in range(24)], abs=1)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_pause_changes_no_batch(workers: int, tmp_path: Path) -> None:
    paths = [painted(tmp_path / f"{n}.png", (n * 20, 0, 0), (32 + n, 24)) for n in range(5)]
    crops = Crops(paths, (8, 8), seed=3)
    straight = list(batches(crops, 2, 6))
    again = [*batches(crops, 2, 3), *batches(crops, 2, 6, start=3, workers=workers)]
    assert all(torch.equal(a, b) for a, b in zip(straight, again, strict=True))
    colours = torch.cat(straight)[:10, 0, 0, 0].tolist()
    assert sorted(colours) == sorted(2 * [0, 20, 40, 60, 80])  # each image once an epoch
    assert colours[:5] != colours[5:]


@pytest.mark.parametrize("share", [0.0, 1.0, 0.9])
def test_something_is_left_to_learn_from(share: float) -> None:
    with pytest.raises(ValueError, match=r"held out|hold some out"):
        held_out([Path("a"), Path("b")], share)

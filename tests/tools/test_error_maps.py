"""Where segmenters err: the table against SciPy's distances, the pictures against the predictions."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image
from scipy import ndimage

from densekd import build_model, read_config
from densekd.cli import maps
from densekd.cli._error_maps import COLOURS, as_picture, error_codes, in_colours, table
from densekd.runs.comparison import Role, config_of

ROOT = Path(__file__).parents[2]
PLAIN = """
_base_ = {base!r}
model = dict(
    backbone=dict(base_channels=8, stem_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=16),
    decode_head=dict(in_channels=[16, 16, 16, 16], channels=16),
)
val_dataloader = dict(batch_size=2, dataset=dict(size=32, count=5))
"""
TAUGHT = """
_base_ = 'plain.py'
model = dict(
    _delete_=True, type='densekd.Distiller', student=_base_.model, teacher='{{fileDirname}}/plain.py', method='cwd'
)
"""


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A config, and weights as its runs leave them, which guess digits here and there."""
    path = tmp_path / "tiny" / "pair.py"
    path.parent.mkdir()
    base = str(ROOT / "configs" / "seg" / "plain" / "semantic_fpn_r18_w16_digits.py")
    path.with_name("plain.py").write_text(PLAIN.format(base=base))
    path.write_text(TAUGHT)
    roles: tuple[Role, ...] = ("teacher", "control", "distilled")
    for number, role in enumerate(roles):
        for seed in range(1 if role == "teacher" else 2):
            torch.manual_seed(10 * number + seed)
            model, _ = build_model(config_of(read_config(path), "teacher" if role == "teacher" else "control"))
            torch.nn.init.normal_(model.decode_head.conv_seg.weight)
            folder = tmp_path / "work" / f"{role}-seed{seed}"
            folder.mkdir(parents=True)
            torch.save({"state_dict": model.state_dict(), "meta": {}}, folder / "iter_1.pth")
            (folder / "last_checkpoint").write_text("iter_1.pth")
    return path


def predictions(path: Path, weights: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """What a student predicts for each image of the validation set, and its labels."""
    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner

    config = config_of(read_config(path), "control")
    model: Any = build_model(config)[0]
    model.load_state_dict(torch.load(weights / "iter_1.pth", weights_only=True)["state_dict"])
    found = []
    with torch.no_grad(), DefaultScope.overwrite_default_scope("mmseg"):
        for batch in Runner.build_dataloader(config.val_dataloader):
            for sample in model.eval().test_step(batch):
                found.append((sample.pred_sem_seg.data[0].numpy(), sample.gt_sem_seg.data[0].numpy()))
    return found


def distances(labels: np.ndarray) -> np.ndarray:
    found = np.full(labels.shape, np.inf)
    for c in np.unique(labels):
        if (labels != c).any():
            found[labels == c] = ndimage.distance_transform_edt(labels == c)[labels == c]
    return found


def test_errors_are_counted_and_drawn(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, work = tmp_path / "maps", tmp_path / "work"
    call = [str(trained), "--work-dir", str(work), "--out", str(out), "--within", "2", "--frames", "2", "--seeds", "2"]
    maps.main(call)
    log = json.loads((out / "errors.json").read_text())
    assert [(each["role"], each["seed"]) for each in log["models"]] == [
        *(("teacher", 0), ("control", 0), ("control", 1), ("distilled", 0), ("distilled", 1))
    ]
    rates: dict[str, list[float]] = {"control": [], "distilled": []}
    made = {}
    for each in log["models"][1:]:
        run = f"{each['role']}-seed{each['seed']}"
        pairs = made[run] = predictions(trained, work / run)
        assert len(pairs) == 5
        guess, truth = (np.stack(side) for side in zip(*pairs))
        away = np.stack([distances(labels) for labels in truth])
        rings = [away <= 1, (away > 1) & (away <= 2), away > 2]
        assert each["wrong_and_all"] == [[((guess != truth) & ring).sum(), ring.sum()] for ring in rings]
        rates[each["role"]].append(100 * (guess != truth)[away <= 2].mean())
    printed = capsys.readouterr()
    (row,) = re.findall(r"^\| distilled, cwd \| (.*) \|$", printed.out, flags=re.M)
    gaps = np.subtract(rates["distilled"], rates["control"])
    told = [float(part) for cell in row.split(" | ")[:2] for part in cell.split(" ± ")]
    expected = [of(values) for values in (rates["distilled"], gaps) for of in (np.mean, lambda x: np.std(x, ddof=1))]
    assert told == pytest.approx(expected, abs=0.0051)
    assert "[5/5] cwd, seed 1" in printed.err

    text = (out / "errors.html").read_text()
    for cell in row.split(" | "):
        assert f"<td>{cell}" in text
    figures = re.findall(r"base64,([^']+)'><figcaption>([^<]+)<", text)
    assert [caption for _, caption in figures] == 2 * ["image", "labels", "control", "cwd"]
    one, other = (made[f"{role}-seed0"] for role in ("control", "distilled"))
    for place in range(2):
        drawn = _pixels(figures[4 * place + 3][0])
        truth = one[place][1]
        near, control, student = distances(truth) <= 2, *(side[place][0] != truth for side in (one, other))
        for key, where in {
            "far": ~near,
            "right": near & ~control & ~student,
            "control": near & control & ~student,
            "student": near & ~control & student,
            "both": near & control & student,
        }.items():
            assert ((drawn == COLOURS[key][0]).all(-1) == where).all(), key
        alone = _pixels(figures[4 * place + 2][0])
        assert ((alone == COLOURS["control"][0]).all(-1) == (near & control)).all()


def _pixels(data: str) -> np.ndarray:
    return np.round(255 * image.imread(io.BytesIO(base64.b64decode(data)))[..., :3])


def test_what_is_missing_or_no_segmenter_is_named(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no weights: run `densekd compare` with the same configs first"):
        maps.main([str(trained), "--work-dir", str(tmp_path / "nowhere"), "--out", str(tmp_path / "maps")])
    assert not (tmp_path / "maps").exists()
    with pytest.raises(ValueError, match=r"maps are of segmenters, or of one pair of detectors .* side 'det'"):
        maps.main(["densekd::det/pkd/digits.py"])


def test_codes_of_void_and_of_pixels_without_an_edge() -> None:
    truth = torch.full((3, 4), 2)
    codes = error_codes(torch.zeros(3, 4), truth, truth, within=3)
    assert (codes == list(COLOURS).index("far")).all()
    truth[:, 0], truth[:, 2] = -1, 1
    codes = error_codes(torch.zeros(3, 4), truth, truth, within=1)
    assert codes[0].tolist() == [list(COLOURS).index(key) for key in ("void", "control", "control", "control")]


def test_a_table_without_pixels_further_away() -> None:
    models = [
        dict(role=role, method="cwd", seed=0, wrong_and_all=[[wrong, 4], [0, 0]])
        for role, wrong in (("control", 2), ("distilled", 1))
    ]
    head, _, control, distilled = table(models, within=1)
    assert head == ["model", "within 1", "Δ within 1", "beyond 1", "all", "0 to 1"]
    assert control == ["control, cwd", "50.00", "", "nan", "50.00", "50.00"]
    assert distilled == ["distilled, cwd", "25.00", "-25.00", "nan", "25.00", "25.00"]


def test_pictures_have_the_size_of_labels_and_their_colours() -> None:
    model = build_model(read_config(ROOT / "configs" / "seg" / "plain" / "semantic_fpn_r18_w16_digits.py"))[0]
    blue = torch.zeros(3, 4, 6, dtype=torch.uint8)
    blue[0] = 200  # of BGR
    shown = as_picture(blue, (8, 12), model)
    assert shown.shape == (8, 12, 3)
    assert (shown == [0, 0, 200]).all()
    found = in_colours(torch.tensor([[0, 1, -1]]), [(1, 2, 3), (4, 5, 6)])
    assert found.tolist() == [[[1, 2, 3], [4, 5, 6], list(COLOURS["void"][0])]]

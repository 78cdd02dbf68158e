from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from matplotlib.path import Path as Outline

from densekd import build_model, read_config
from densekd.cli import maps as bev_maps
from densekd.cli._ground_maps import ROLES, View, distance, in_boxes
from densekd.runs.comparison import config_of
from densekd.sensors.geometry import Extent, nine_points

ROOT = Path(__file__).parents[2]


def test_cells_in_boxes_are_those_in_their_outlines() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.rand(4, 5, generator=generator) * torch.tensor([8.0, 8, 3, 2, 6]) + torch.tensor([0.0, 0, 1, 1, -3])
    points = torch.rand(500, 2, generator=generator) * 9
    outlines = [Outline(corners[[0, 2, 8, 6]].numpy()) for corners in nine_points(boxes)]
    expected = [any(outline.contains_point(point) for outline in outlines) for point in points.numpy()]
    assert 50 < sum(expected) < 450
    assert in_boxes(points, boxes).tolist() == expected


def test_the_distance_looks_into_boxes_alone_and_is_one_for_zeros() -> None:
    maps, box, extent = torch.randn(1, 3, 8, 8), torch.tensor([[4.0, 4.0, 3.0, 2.0, 0.0]]), Extent(0, 0, 8, 8)
    elsewhere = torch.randn(1, 3, 8, 8)
    elsewhere[:, :, 3:5, 2:6] = maps[:, :, 3:5, 2:6]

    def away(student: torch.Tensor, shown: Extent = extent) -> float:
        return distance(View({"low": student}, shown), View({"low": maps}, extent), "low", [box])

    assert away(elsewhere) == 0
    assert away(torch.zeros_like(maps)) == pytest.approx(1)
    assert away(0.75 * maps) == pytest.approx(0.25)
    wider = torch.nn.functional.pad(maps, (4, 4, 4, 4))
    assert away(wider, Extent(-4, -4, 12, 12)) == pytest.approx(0, abs=1e-6)  # by metres, not by cells
    with pytest.raises(ValueError, match="the low maps have 2 and 3 channels"):
        away(maps[:, :2])


def test_maps_of_models_are_drawn_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = ROOT / "configs" / "bev" / "unidistill" / "lidar_to_camera_world.py"
    work = tmp_path / "work"
    call = [str(path), "--work-dir", str(work), "--out", str(tmp_path / "maps"), "--frames", "2"]
    with pytest.raises(FileNotFoundError, match=r"teacher-seed0 holds no weights: run `densekd compare`"):
        bev_maps.main(call)
    for role in ROLES:  # as a run leaves them
        torch.manual_seed(0)
        model, _ = build_model(config_of(read_config(path), "teacher" if role == "teacher" else "control"))
        if role == "distilled":
            model.view_transform.depth_and_context.weight.data.mul_(3)
        (work / f"{role}-seed0").mkdir(parents=True)
        torch.save({"state_dict": model.state_dict(), "meta": {}}, work / f"{role}-seed0" / "iter_1.pth")
        (work / f"{role}-seed0" / "last_checkpoint").write_text("iter_1.pth")
    bev_maps.main(call)
    log = json.loads((tmp_path / "maps" / "distance.json").read_text())
    assert log["frames"] == 2
    assert log["boxes"] > 2
    control, taught = log["distance"]["control"], log["distance"]["distilled"]
    assert all(0 < control[tap] != taught[tap] > 0 for tap in ("low", "high"))
    assert (tmp_path / "maps" / "maps.png").read_bytes().startswith(b"\x89PNG")
    assert f"| distilled | {taught['low']:.3f} |" in capsys.readouterr().out

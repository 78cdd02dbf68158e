"""The tool that teaches an encoder of objects without labels: real scenes, few steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from densekd.bev import world
from densekd.bev.point_disco import PointEncoder
from densekd.cli import points as point_disco

WORLD = Path(__file__).parents[2] / "configs" / "bev" / "plain" / "lidar_world.py"


def test_objects_are_the_points_in_the_boxes() -> None:
    found = point_disco.objects(WORLD, 6)
    sizes = []
    for index in range(6):
        scene = world.draw(index, "train")
        for box, label in zip(scene.boxes, scene.labels):
            x = scene.points[:, :3] - box[:3]
            cos, sin = np.cos(box[6]), np.sin(box[6])
            own = np.abs(np.stack([cos * x[:, 0] + sin * x[:, 1], cos * x[:, 1] - sin * x[:, 0]], 1))
            inside = (own < box[3:5] / 2).all(1) & (x[:, 2] > 0) & (x[:, 2] < box[5])
            if inside.sum() >= point_disco.FEWEST:
                sizes.append((index, int(label), int(inside.sum())))
    mine = [(f, k, len(c)) for f, k, c in zip(found.frames.tolist(), found.labels.tolist(), found.clouds)]
    assert len(mine) > 5
    assert [each[:2] for each in mine] == [each[:2] for each in sizes]
    assert all(abs(one[2] - other[2]) <= 2 for one, other in zip(mine, sizes))  # on the faces rounding decides
    for cloud in found.clouds:
        torch.testing.assert_close(cloud.mean(0), torch.zeros(3), atol=1e-4, rtol=0)
        assert cloud.norm(dim=1).max().item() == pytest.approx(1)


def test_it_logs_weights_and_table_and_replaces_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--frames", "24", "--seeds", "2", "--iterations", "2", "--batch", "8", "--channels", "16"]
    call = [str(WORLD), *short, "--labelled", "5", "--out", str(tmp_path / "log.json"), "--work-dir", str(tmp_path)]
    point_disco.main(call)
    assert "| distilled, point_disco | 2 |" in capsys.readouterr().out
    logs = json.loads((tmp_path / "log.json").read_text())
    assert [(log["role"], log["seed"]) for log in logs] == [
        *(("control", 0), ("distilled", 0)),
        *(("control", 1), ("distilled", 1)),
    ]
    assert all(0 <= log["metrics"]["probe, 5 a class"] <= 100 for log in logs)
    PointEncoder(channels=16).load_state_dict(load_file(tmp_path / "seed1.safetensors"))
    with pytest.raises(SystemExit, match="exists: --force trains again"):
        point_disco.main(call)
    with pytest.raises(
        SystemExit, match=r"seed0\.safetensors exists: --force trains again and replaces it, --work-dir"
    ):
        point_disco.main([*call[:-4], "--out", str(tmp_path / "other.json"), "--work-dir", str(tmp_path)])
    elsewhere = ["--out", str(tmp_path / "other.json"), "--work-dir", str(tmp_path / "other")]
    with pytest.raises(SystemExit, match="too few objects in the first frames"):
        point_disco.main([str(WORLD), *short[2:], "--frames", "1", *elsewhere])
    with pytest.raises(SystemExit, match="has 2000 frames for training"):
        point_disco.main([str(WORLD), *short[2:], "--frames", "2001", *elsewhere])


def test_a_transformer_has_a_log_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--frames", "24", "--seeds", "1", "--iterations", "2", "--batch", "8", "--channels", "16"]
    call = [str(WORLD), *short, "--labelled", "5", "--out", str(tmp_path / "log.json"), "--work-dir", str(tmp_path)]
    point_disco.main([*call, "--encoder", "transformer"])
    assert "| distilled, point_disco_transformer | 1 |" in capsys.readouterr().out
    logs = json.loads((tmp_path / "log.json").read_text())
    assert {log["name"] for log in logs} == {"point_disco_transformer-lidar_world"}
    encoder = point_disco.ENCODERS["transformer"](16)
    encoder.load_state_dict(load_file(tmp_path / "seed0.safetensors"))


def test_running_statistics_are_those_of_whole_clouds() -> None:
    clouds = [torch.rand(40, 3, generator=torch.Generator().manual_seed(i)) for i in range(20)]
    encoder = point_disco.settled(PointEncoder(channels=16), point_disco.whole(clouds))
    features = encoder(point_disco.whole(clouds))
    torch.testing.assert_close(features.mean(0), torch.zeros(16), atol=0.05, rtol=0)
    torch.testing.assert_close(features.std(0), torch.ones(16), atol=0.05, rtol=0)
    torch.testing.assert_close(encoder(point_disco.whole(clouds)), features)


def test_a_last_cloud_alone_is_no_batch() -> None:
    shown = torch.rand(129, 16, 3, generator=torch.Generator().manual_seed(0))
    features = point_disco.settled(PointEncoder(channels=8), shown)(shown)
    assert features.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--seeds 0", "--seeds must be at least 1"),
        ("--batch 1", "--batch must be at least 2"),
        ("--labelled 0", "--labelled must be at least 1"),
    ],
)
def test_numbers_that_cannot_be(options: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        point_disco.parse([str(WORLD), *options.split()])
    assert message in capsys.readouterr().err


def test_what_cannot_be_built_says_so_before_frames_are_read(tmp_path: Path) -> None:
    call = ["none.py", "--out", str(tmp_path / "log.json"), "--work-dir", str(tmp_path), "--channels", "7"]
    with pytest.raises(ValueError, match="channels must be even"):
        point_disco.main(call)
    with pytest.raises(ValueError, match="half of channels=7 must be a multiple of heads=4"):
        point_disco.main([*call, "--encoder", "transformer"])

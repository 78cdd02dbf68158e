from __future__ import annotations

import json
from pathlib import Path

import weight_grid

from densekd import read_config


def test_a_config_for_each_weight(tmp_path: Path) -> None:
    paths = weight_grid.configs(["bpkd"], tmp_path)
    models = {path.parent.name: read_config(path).model for path in paths}
    assert list(models) == ["bpkd_auto", *(f"bpkd_x{factor:g}" for factor in weight_grid.FACTORS)]
    assert models["bpkd_auto"].balance == "auto"
    weights = [[entry.weight for entry in models[f"bpkd_x{factor:g}"].distills] for factor in weight_grid.FACTORS]
    for factor, found in zip(weight_grid.FACTORS, weights):
        assert found == [factor * 50.0, factor * 20.0]


def test_the_best_of_the_grid_is_what_auto_is_compared_with(tmp_path: Path) -> None:
    scores = {"x0.01": 10.0, "x0.1": 20.0, "x1": 40.0, "x10": 30.0, "x100": 5.0, "auto": 39.0}
    for name, score in scores.items():
        for seed in range(2):
            log = {"schema": 1, "role": "distilled", "method": f"cwd_{name}", "seed": seed, "cpu_seconds": 10}
            log["metrics"] = {"mIoU": score + seed}
            (tmp_path / f"cwd_{name}-seed{seed}.json").write_text(json.dumps(log))
    row = [cell.strip() for cell in weight_grid.report(tmp_path).splitlines()[-1].split("|")[1:-1]]
    assert row[0] == "cwd"
    assert row[3] == "40.50 ± 0.71"
    assert row[6:] == ["39.50 ± 0.71", "-1.00", "5.0"]

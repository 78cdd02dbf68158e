"""`freekd`: prompts learned on the frozen teacher, their files in a method, and what a detector learns of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from torch import nn

from densekd.cli import tokens
from densekd.losses.frequency_prompts import FrequencyPrompts, haar
from densekd.losses.receptive_tokens import overlap
from densekd.methods import method_entries
from densekd.mmlab.building import build_model
from densekd.receptive import learn_prompts
from densekd.taps.reader import Taps

from ..conftest import CONFIGS, seg_batch
from .teaching import gap, scenes_of_objects


class Raw(nn.Module):
    """What stands in for a preprocessor where batches are made already."""

    def forward(self, batch: dict, training: bool) -> dict:
        return batch


def test_prompts_keep_the_task_and_part(seg: Config) -> None:
    torch.manual_seed(0)
    teacher: Any = build_model(seg)[0]
    teacher.decode_head.bottleneck.bn.weight.data *= 100  # features as large as those of a trained model
    batch, tap = seg_batch(teacher), "decode_head.bottleneck"
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    teacher.data_preprocessor = Raw()
    learned = learn_prompts(teacher, [batch], [tap], tokens=3, levels=2, iterations=40)[tap]
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    with torch.no_grad(), Taps(teacher.eval(), [tap]) as taps:
        teacher(batch["inputs"])
    (f,) = taps[tap]
    torch.manual_seed(0)
    fresh = FrequencyPrompts(f.shape[1], 3, 2)

    def task(prompts: FrequencyPrompts) -> float:
        with torch.no_grad():
            logits = teacher.decode_head.cls_seg(prompts.attend(f)[0])
            return teacher.decode_head.loss_by_feat(logits, batch["data_samples"])["loss_ce"].item()

    def alike(prompts: FrequencyPrompts) -> float:
        low, bands = prompts.masks(*haar(f, 2))
        return sum(overlap(mask.flatten(2)).mean().item() for mask in (low, *bands))

    assert task(learned) < task(fresh)
    assert alike(learned) < 0.95 * alike(fresh)


def test_the_tool_writes_what_the_method_reads(det_teacher: dict[str, str], det: Config, tmp_path: Path) -> None:
    arguments = ["--checkpoint", det_teacher["checkpoint"], "--iterations", "2", "--lr", "0.001", "--frequency"]
    tokens.main([det_teacher["teacher"], *arguments, "--out", str(tmp_path)])
    student, teacher = build_model(det)[0], build_model(det_teacher["teacher"])[0]
    entries = method_entries(dict(type="freekd", learned=str(tmp_path)), student, teacher)
    assert [entry["loss"]["learned"] for entry in entries] == [
        str(tmp_path / f"neck.{i}.safetensors") for i in range(5)
    ]
    assert {entry["adapt"] for entry in entries} == {"conv1x1"}
    assert FrequencyPrompts.load(entries[0]["loss"]["learned"]).tokens.shape == (4, 6, 32)
    with pytest.raises(FileNotFoundError, match=r"densekd tokens TEACHER .* --frequency --tap neck:0 --out nowhere"):
        method_entries(dict(type="freekd", learned="nowhere"), student, teacher)
    with pytest.raises(FileExistsError, match=r"neck\.0\.safetensors exists: --force replaces it"):
        tokens.main([det_teacher["teacher"], *arguments, "--out", str(tmp_path)])
    first = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    tokens.main([det_teacher["teacher"], *arguments, "--out", str(tmp_path), "--force"])
    assert [path.read_bytes() for path in sorted(tmp_path.iterdir())] == first  # the seed is that of the data, too


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--levels 2", "--levels is for frequency prompts: give --frequency, too"),
        ("--frequency --levels 0", "--levels must be at least 1"),
        ("--lr nan", "--lr must be a positive number"),
        ("--frequency --equal", "--equal is for receptive tokens"),
    ],
)
def test_options_of_the_tool(options: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tokens.main(["teacher.py", "--checkpoint", "none.pth", "--out", str(tmp_path), *options.split()])
    assert message in capsys.readouterr().err


def test_a_file_in_the_way_is_found_before_anything_is_learned(tmp_path: Path) -> None:
    (tmp_path / "prompts").write_text("")
    with pytest.raises(FileExistsError, match=r"prompts is a file; choose another folder"):
        tokens.main(["teacher.py", "--checkpoint", "none.pth", "--out", str(tmp_path / "prompts")])


def test_prompts_that_are_no_numbers_are_not_returned(seg: Config) -> None:
    teacher: Any = build_model(seg)[0]
    batch = seg_batch(teacher)
    batch["inputs"] = batch["inputs"] * torch.nan
    teacher.data_preprocessor = Raw()
    with pytest.raises(FloatingPointError, match=r"learned at decode_head\.bottleneck is not finite: lower lr"):
        learn_prompts(teacher, [batch], ["decode_head.bottleneck"], tokens=2, levels=1, iterations=1)


def test_it_comes_closer_to_the_teacher_than_labels_alone() -> None:
    taught, control = (
        gap(CONFIGS / "det.py", CONFIGS / "det_teacher.py", "freekd", scenes_of_objects, taught=taught)
        for taught in (True, False)
    )
    assert taught < 0.9 * control

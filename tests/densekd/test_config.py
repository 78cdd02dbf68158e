"""A student is what its config says, however the distiller names it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from densekd.mmlab.building import build_model
from densekd.mmlab.config import control, override, plain_model, read_config

from .conftest import CONFIGS

SEG, WIDE = str(CONFIGS / "seg.py"), str(CONFIGS / "seg_teacher.py")
PACKAGED = "mmseg::fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py"
TAUGHT = "dict(type='densekd.Distiller', student={}, teacher='ema', method='cwd')"
WAYS = {
    "its model": ("_base_.model", SEG),
    "a path": (repr(SEG), SEG),
    "a package's path": (repr(PACKAGED), PACKAGED),
    "a dict with a model": ("dict(model=_base_.model, default_scope='mmseg')", SEG),
    "a distiller": (TAUGHT.format("_base_.model"), SEG),
    "a distiller of a path": (TAUGHT.format(repr(SEG)), SEG),
    "the path of a distiller": ("'{folder}/inner.py'", SEG),
    "the path of a distiller of the path of a distiller": ("'{folder}/outer.py'", SEG),
}


def write(folder: Path, student: str, rest: str = "") -> Path:
    """Write configs of a distiller, and of two that stand inside of each other."""
    for name, inner in (("inner", SEG), ("outer", f"{folder}/inner.py")):
        (folder / f"{name}.py").write_text(
            f"default_scope = 'mmseg'\nmodel = dict(type='densekd.Distiller', student={inner!r}, teacher={WIDE!r})\n"
        )
    text = (
        f"_base_ = {SEG!r}\nmodel = dict(_delete_=True, type='densekd.Distiller', student={student}, teacher='ema')\n"
    )
    (folder / "taught.py").write_text(text.replace("{folder}", str(folder)) + rest)
    return folder / "taught.py"


@pytest.mark.parametrize("way", WAYS)
def test_the_control_is_the_student(way: str, tmp_path: Path) -> None:
    student, source = WAYS[way]
    config = control(read_config(write(tmp_path, student)))
    assert config.train_cfg == read_config(SEG).train_cfg  # its own schedule, not the student's
    expected = read_config(source).model
    assert {**config.model, "data_preprocessor": None} == {**expected, "data_preprocessor": None}
    torch.manual_seed(0)
    found, _ = build_model(config)
    torch.manual_seed(0)
    plain, _ = build_model(source)
    assert type(found) is type(plain)
    assert {key: value.shape for key, value in found.state_dict().items()} == {
        key: value.shape for key, value in plain.state_dict().items()
    }
    for mine, its in zip(found.data_preprocessor.buffers(), plain.data_preprocessor.buffers()):
        assert torch.equal(mine, its)


@pytest.mark.parametrize(("own", "expected"), [(None, "student.pth"), ("own.pth", "own.pth")])
@pytest.mark.parametrize("nested", [False, True])
def test_the_control_starts_where_the_student_starts(
    own: str | None, expected: str, nested: bool, tmp_path: Path
) -> None:
    (tmp_path / "start.py").write_text(f"_base_ = {SEG!r}\nload_from = 'student.pth'\n")
    named = "'{folder}/start.py'"
    taught = write(tmp_path, TAUGHT.format(named) if nested else named, f"load_from = {own!r}\n")
    assert control(read_config(taught)).load_from == expected


def test_a_student_of_another_library_keeps_its_scope(tmp_path: Path) -> None:
    model = control(read_config(write(tmp_path, repr(str(CONFIGS / "det.py"))))).model
    assert model["_scope_"] == "mmdet"
    assert type(build_model({"model": model, "default_scope": "mmseg"})[0]).__module__.startswith("mmdet.")


def test_a_student_that_is_none_is_named(tmp_path: Path) -> None:
    itself = write(tmp_path, "'{folder}/taught.py'")
    with pytest.raises(ValueError, match=r"taught\.py leads back to itself"):
        control(read_config(itself))
    for student, error, message in (
        ("gone.py", FileNotFoundError, "no config gone.py"),
        (f"{tmp_path}/data.py", TypeError, "needs a 'type', got the keys 'x'"),
        (3, TypeError, "got a int"),
    ):
        (tmp_path / "data.py").write_text("x = 1\n")
        with pytest.raises(error, match=message):
            plain_model({"student": student, "teacher": "ema"})


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("x = (", ValueError, "cannot be read: "),
        ("_base_ = 'gone.py'", FileNotFoundError, "own.py: .*gone.py"),
        ("_base_ = 'notapackage::x.py'", ValueError, "own.py cannot be read: "),
        ("x = y", ValueError, "cannot be read: NameError"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(text: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(text)
    with pytest.raises(error, match=message):
        read_config(tmp_path / "own.py")


def test_a_graph_config_is_named_as_one() -> None:
    with pytest.raises(ValueError, match=r"is of graphkd, for a graph: `graphkd distill graphkd::"):
        read_config("graphkd::glnn/digits.py")


@pytest.mark.parametrize(
    ("field", "near"),
    [("trian_cfg.max_iters", "train_cfg"), ("model.backbon.depth", "backbone"), ("optim_wraper.type", "optim_wrapper")],
)
def test_a_misspelt_field_is_named(field: str, near: str) -> None:
    config = read_config(SEG)
    before = config.pretty_text
    with pytest.raises(ValueError, match=rf"has no field {field.rpartition('.')[0]}: did you mean {near}\?"):
        override(config, {field: 1})
    assert config.pretty_text == before


@pytest.mark.parametrize(
    "field",
    ["train_cfg.max_iters", "optim_wrapper.clip_grad.max_norm", "auto_scale_lr.enable", "custom_hooks", "seed_of_mine"],
)
def test_a_new_field_is_set(field: str) -> None:
    config = override(read_config(SEG), {field: 1})
    for name in field.split("."):
        config = config[name]
    assert config == 1

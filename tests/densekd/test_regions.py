"""Regions on disk, and the command that writes them."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from densekd.cli import regions as command
from densekd.cli import test, train
from densekd.datasets.digits import draw
from densekd.hub.clip_attr import Prompts
from densekd.hub.image_text import image_text
from densekd.mmlab.config import read_config
from densekd.regions import Regions, RegionStore, write_regions
from densekd.texts import TextTable

from . import small_clip

TEXTS = {"cat": torch.tensor([1.0, 0, 0]), "dog": torch.tensor([0.0, 1, 0])}


def some(count: int, seed: int = 0) -> Regions:
    draw = torch.Generator().manual_seed(seed)
    return Regions(*(torch.rand(size, generator=draw) for size in ((count, 4), (count, 3), (count,))))


def test_what_is_written_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("densekd.regions.SHARD", 2)
    written = {key: some(count, count) for key, count in (("a/1", 3), (7, 0), (8, 2), (9, 1), ("b", 4))}
    write_regions(tmp_path / "out", TEXTS, ((key, (20, 30), each) for key, each in written.items()), {"seed": 3})
    assert len(list((tmp_path / "out").glob("regions-*"))) == 3
    store = RegionStore(tmp_path / "out")
    assert (len(store), store.channels, store.facts) == (5, 3, {"seed": 3})
    for known in (store, copy.deepcopy(store), pickle.loads(pickle.dumps(store))):
        for key, each in written.items():
            found = known(key, (20, 30, 3))
            torch.testing.assert_close(found.boxes, each.boxes)
            torch.testing.assert_close(found.embeddings, each.embeddings, atol=1e-3, rtol=1e-3)
            torch.testing.assert_close(found.weights, each.weights)
    assert TextTable(tmp_path / "out" / "texts.safetensors")(["dog"]).tolist() == [[0.0, 1, 0]]
    with pytest.raises(KeyError, match="no regions of image '70'"):
        store(70, (20, 30))
    with pytest.raises(ValueError, match="are of 20 x 30 pixels, the image has 30 x 20"):
        store(7, (30, 20))


def test_nothing_is_left_of_what_failed(tmp_path: Path) -> None:
    def broken() -> object:
        yield 1, (9, 9), some(2)
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        write_regions(tmp_path / "out", TEXTS, broken())
    for wrong, message in (
        ([(1, (9, 9), some(2)), ("1", (9, 9), some(2))], "two images have the img_id '1'"),
        ([(1, (9, 9), some(2)._replace(weights=torch.ones(3)))], "do not fit"),
        ([(1, (9, 9), some(2)._replace(weights=torch.tensor([1, torch.nan])))], "is not finite"),
        ([(1, (9, 9), some(2)._replace(weights=torch.tensor([1.0, -1])))], "a weight is negative"),
        ([(1, (9, 9), some(2)._replace(embeddings=torch.full((2, 3), 1e5)))], "too large for half precision"),
        ([], "there is no image"),
    ):
        with pytest.raises(ValueError, match=message):
            write_regions(tmp_path / "out", TEXTS, wrong)
    with pytest.raises(ValueError, match="there is no text to write"):
        write_regions(tmp_path / "out", {}, [(1, (9, 9), some(2))])
    assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError, match="exists: take another name"):
        write_regions(tmp_path / "out", TEXTS, [])


def test_two_names_may_have_one_embedding(tmp_path: Path) -> None:
    one = torch.tensor([1.0, 0, 0])
    write_regions(tmp_path / "out", {"cat": one, "tom cat": one}, [(1, (9, 9), some(2))])
    assert TextTable(tmp_path / "out" / "texts.safetensors")(["tom cat"]).tolist() == [[1.0, 0, 0]]


def test_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there are no regions in .*: `densekd regions` writes them"):
        RegionStore(tmp_path)
    save_file({"1.boxes": torch.zeros(1, 4)}, tmp_path / "regions-00000.safetensors")
    with pytest.raises(ValueError, match=r"holds no regions .its format is None"):
        RegionStore(tmp_path)
    (tmp_path / "regions-00000.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="holds no regions"):
        RegionStore(tmp_path)


BASE = [f"digit {digit}" for digit in range(5)]
CONFIG = """
_base_ = "densekd::det/ezad/digits.py"
base = {base}
model = dict(roi_head=dict(base=base, novel=["digit 5", "digit 6", "digit 7", "digit 8", "digit 9"]))
train_dataloader = dict(dataset=dict(count=6, metainfo=dict(classes=base)))
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.py"
    path.write_text(CONFIG.format(base=BASE))
    return path


def test_the_command_embeds_true_and_sure_boxes(
    config: Path, tmp_path: Path, digits_clip: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [str(config), "--encoder", digits_clip, "--stride", "32", "--scales", "0.75", "--boxes", "3"]
    command.main([*call, "--out", str(tmp_path / "out")])
    assert "10 names" in capsys.readouterr().out
    store, encoder = RegionStore(tmp_path / "out"), image_text(digits_clip)
    assert len(store) == 6
    novel = 0
    for index in range(6):
        scene = draw(index, "train", 64)
        found = store(index, (64, 64))
        base = torch.from_numpy(scene.boxes[scene.digits < 5])
        novel += int((scene.digits >= 5).sum())
        torch.testing.assert_close(found.boxes[: len(base)], base)
        assert len(found.boxes) == len(base) + 3  # no box of a novel class was read
        assert found.weights[: len(base)].eq(1).all()
        again = encoder.regions(scene.image, found.boxes)
        torch.testing.assert_close(found.embeddings, again, atol=2e-3, rtol=1e-2)
    assert novel > 3
    torch.testing.assert_close(TextTable(tmp_path / "out" / "texts.safetensors")(BASE), encoder.names(BASE))
    with pytest.raises(FileExistsError, match="exists: take another name"):
        command.main([*call, "--out", str(tmp_path / "out")])
    command.main([*call[:-1], "0", "--adapt", "2", "--lr", "0.01", "--out", str(tmp_path / "adapted")])
    assert "encoder adapted to" in capsys.readouterr().out
    moved, still = (RegionStore(tmp_path / each)(0, (64, 64)).embeddings for each in ("adapted", "out"))
    assert not torch.allclose(moved, still[: len(moved)], atol=5e-3)


def test_a_run_from_regions_to_score(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "regions"
    encoder = ["--encoder", str(small_clip.untrained(tmp_path / "clip"))]
    command.main([str(config), *encoder, "--boxes", "3", "--scales", "0.75", "--out", str(folder)])
    small = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"]
    small += ["train_dataloader.batch_size=2", "val_dataloader.dataset.count=2", "test_dataloader.dataset.count=2"]
    options = ["--cfg-options", *small, "default_hooks.logger.interval=1", f"model.roi_head.regions={folder}"]
    losses = {}
    for name, which in (("taught", []), ("control", ["--control"])):
        train.main([str(config), *which, "--work-dir", str(tmp_path / name), "--seed", "0", *options])
        told = capsys.readouterr().out
        assert (f"regions of {folder}" in told) == (name == "taught")
        logged = next((tmp_path / name).glob("*/vis_data/scalars.json")).read_text()
        losses[name] = [json.loads(line).get("loss_regions") for line in logged.splitlines()[:2]]
    assert min(losses["taught"]) > 0
    assert losses["control"] == [None, None]
    for path in folder.glob("regions-*"):
        path.unlink()
    scores = test.main([str(config), str(tmp_path / "taught"), *options])  # a test needs the texts alone
    assert {"coco/digit 9_precision", "coco/base_ap", "coco/novel_ap", "coco/novel_ap50"} <= set(scores)
    with pytest.raises(SystemExit, match=r"learns from regions in .*, and has no --balance: leave it out"):
        train.main([str(config), "--balance", "auto"])


OVAR = """
_base_ = "densekd::det/ovarnet/digits.py"
train_dataloader = dict(dataset=dict(count=6))
"""
LEARN, FIXED = ["--learn", "3", "--vectors", "3"], ["--attribute-prompt", "something {}"]


@pytest.fixture
def ovar(tmp_path: Path) -> tuple[Path, list[str]]:
    """A config with attributes, and an encoder that knows their words."""
    (tmp_path / "ovar.py").write_text(OVAR)
    words = [*small_clip.WORDS, *small_clip.MORE]
    folder = small_clip.untrained(tmp_path / "clip", words=words, context=16)
    return tmp_path / "ovar.py", ["--encoder", str(folder), "--boxes", "3", "--scales", "0.75"]


def test_a_run_with_attributes_from_regions_to_score(
    ovar: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, rest = ovar
    (tmp_path / "captions.json").write_text(json.dumps({"3": "a yellow digit", "5": "nothing of note"}))
    folder = tmp_path / "regions"
    learning = [*LEARN, "--captions", str(tmp_path / "captions.json"), "--caption-boxes", "2"]
    command.main([str(config), *rest, *learning, "--out", str(folder)])
    told = capsys.readouterr().out
    assert "prompts learned from" in told
    assert "18 names" in told
    encoder = image_text(rest[1])
    prompts = Prompts.load(folder / "prompts.safetensors", encoder)
    table = TextTable(folder / "texts.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(table(["attribute: yellow"]), prompts({"yellow": "color"}), atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(table(["digit 9"]), prompts({"digit 9": ""}), atol=1e-5, rtol=1e-3)
    command.main([str(config), *rest, *FIXED, "--out", str(tmp_path / "fixed")])
    found = TextTable(tmp_path / "fixed" / "texts.safetensors")(["attribute: red"])
    torch.testing.assert_close(found, encoder.names(["red"], ["something {}"]))
    assert not (tmp_path / "fixed" / "prompts.safetensors").exists()
    small = ["train_cfg.max_iters=2", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2"]
    small += ["train_dataloader.batch_size=2", "val_dataloader.dataset.count=2", "test_dataloader.dataset.count=8"]
    options = ["--cfg-options", *small, "default_hooks.logger.interval=1", f"model.roi_head.regions={folder}"]
    losses = {}
    for name, which in (("taught", []), ("control", ["--control"])):
        train.main([str(config), *which, "--work-dir", str(tmp_path / name), "--seed", "0", *options])
        logged = next((tmp_path / name).glob("*/vis_data/scalars.json")).read_text()
        first = json.loads(logged.splitlines()[0])
        losses[name] = first.get("loss_regions"), first["loss_attributes"]
    assert min(losses["taught"]) > 0
    assert losses["control"][0] is None
    assert losses["control"][1] > 0
    scores = test.main([str(config), str(tmp_path / "taught"), *options])
    expected = {"coco/base_ap", "coco/novel_ap", "attributes/mAP", "attributes/mAP_base", "attributes/mAP_novel"}
    assert {*expected, "attributes/AP.purple"} <= set(scores)


def test_a_caption_teaches_by_proposals_of_its_image(ovar: tuple[Path, list[str]]) -> None:
    config = read_config(ovar[0])
    names = command.names_of(config)
    images = command.Originals(config, names)
    encoder = image_text(ovar[1][1])
    texts = encoder.names([*names.base, *names.novel])
    sizes = dict(count=2, stride=32, scales=[0.75], iou=0.7, batch=64)
    told = command.crops_told(images, encoder, names, {"3": "a yellow digit"}, texts, sizes)
    per_image = [image.boxes.shape[0] for image in images]
    counts = [count + 2 * (index == 3) for index, count in enumerate(per_image)]
    assert told.images.bincount().tolist() == counts
    of_three = told.images == 3
    attributes = [*names.attributes, *names.novel_attributes]
    assert told.mentioned[~of_three].eq(-1).all()
    assert told.mentioned[of_three].eq(1).nonzero()[:, 1].unique().tolist() == [attributes.index("yellow")]
    assert told.classes[of_three][-2:].tolist() == [-1, -1]  # proposals have no label
    assert told.attributes[of_three][-2:].eq(-1).all()
    assert told.attributes[:, -2:].eq(-1).all()  # nothing is known of novel attributes
    assert told.attributes[told.images == 0][:, :-2].ge(0).all()


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (None, "there is no such file"),
        ("[1", "is no JSON"),
        ("[1]", "must hold an object of captions by img_id"),
        ('{"77": "red"}', "no training image has the img_id '77'"),
        ('{"3": "a reddish digit"}', "no caption names one of the attributes red, green"),
    ],
)
def test_wrong_captions_are_named(
    captions: str | None, message: str, ovar: tuple[Path, list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "captions.json"
    if captions is not None:
        path.write_text(captions)
    call = [str(ovar[0]), *ovar[1], "--out", str(tmp_path / "out")]
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        command.main([*call, *LEARN, "--captions", str(path)])
    assert not (tmp_path / "out").exists()


def test_attributes_that_cannot_be_learned_are_refused(
    ovar: tuple[Path, list[str]], config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    for given, message in (
        (["--captions", "x.json"], "--captions is for --learn: give that as well"),
        (["--tower-lr", "0.1"], "--tower-lr is for --learn"),
        ([*LEARN, "--caption-boxes", "3"], "--caption-boxes is for --captions"),
        (["--adapt-images", "3"], "--adapt-images is for --adapt"),
        ([*LEARN, *FIXED], "--learn learns prompts in place of --attribute-prompt"),
        ([*LEARN, "--prompt", "a {}"], "in place of --prompt, which --adapt and --captions alone would read"),
    ):
        with pytest.raises(SystemExit):
            command.main([str(ovar[0]), *ovar[1], *given, *out])
        assert message in capsys.readouterr().err
    for given in (LEARN, FIXED):
        with pytest.raises(ValueError, match=rf"{given[0]} is for attributes, and .* has none"):
            command.main([str(config), *ovar[1], *given, *out])
    for metainfo, message in (
        ("dict(attributes=['red', 'yellow'])", "attribute 'yellow', which is novel"),
        ("dict(attributes=['rod'])", "no attribute 'rod'; did you mean 'red'"),
    ):
        ovar[0].write_text(f"{OVAR}\ntrain_dataloader['dataset'].update(metainfo={metainfo})")
        with pytest.raises(ValueError, match=message):
            command.main([str(ovar[0]), *ovar[1], *LEARN, *out])
    for head, message in (
        ("dict(novel_attributes=dict(color=['red']))", "names 'red' as base and as novel"),
        ("dict(novel_attributes=dict(color='yellow'))", "got the text 'yellow': put it in brackets"),
    ):
        ovar[0].write_text(f"{OVAR}\nmodel = dict(roi_head={head})")
        with pytest.raises(ValueError, match=message):
            command.main([str(ovar[0]), *ovar[1], *out])
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_other_configs(config: Path, tmp_path: Path) -> None:
    folder = small_clip.untrained(tmp_path / "clip")
    rest = ["--encoder", str(folder), "--out", str(tmp_path / "out")]
    with pytest.raises(ValueError, match=r"has no roi_head of type densekd.EZADRoIHead or densekd.OvarNetRoIHead"):
        command.main(["densekd::det/plain/faster_rcnn_r18_w16_digits.py", *rest])
    with pytest.raises(ValueError, match=r"--device cuda:99 cannot be used here .*: choose another"):
        command.main([str(config), *rest, "--device", "cuda:99"])
    config.write_text(
        CONFIG.format(base=BASE[:4]).replace("metainfo=dict(classes=base)", f"metainfo=dict(classes={BASE})")
    )
    with pytest.raises(ValueError, match=r"have the classes .* the base classes are .*metainfo"):
        command.main([str(config), *rest])
    assert not (tmp_path / "out").exists()


def test_other_digits_stay_in_the_images_without_boxes() -> None:
    from densekd.datasets import DigitScenesDet

    some_classes = DigitScenesDet(count=5, size=64, metainfo=dict(classes=("digit 4", "digit 1")))
    for index in range(5):
        scene = draw(index, "train", 64)
        info = some_classes.get_data_info(index)
        expected = [{4: 0, 1: 1}[d] for d in scene.digits.tolist() if d in (4, 1)]
        assert [each["bbox_label"] for each in info["instances"]] == expected
        np.testing.assert_array_equal(info["img"], scene.image[..., ::-1])
    with pytest.raises(ValueError, match="digit scenes have no class 'digit 11'"):
        DigitScenesDet(count=5, metainfo=dict(classes=("digit 11",)))

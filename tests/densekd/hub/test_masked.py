"""Hidden patches do not reach a network, only they are rebuilt, and a teacher sees what its student sees."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmseg.models.backbones import BEiT, MixVisionTransformer, SwinTransformer, VisionTransformer
from torch import Tensor, nn
from transformers import (
    Dinov2Config,
    Dinov2Model,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from densekd import build_model
from densekd.cli.pretrain import main
from densekd.hub.features import Features
from densekd.hub.images import find_images
from densekd.hub.masked import Autoencoder, MaskedPretraining, autoencoder, further
from densekd.hub.masking import Masking, as_grid, enlarged, patch_for, transformer_blocks
from densekd.hub.rebuilding import Decoder, patches, rebuilt
from densekd.methods import method_entries

from ..conftest import CONFIGS
from .test_pretrain import backbone

HERE = __name__
SIZE = (64, 64)


class Plain(nn.Module):
    """A vision transformer of nothing but PyTorch's own blocks, with a class token."""

    def __init__(self, width: int = 48, depth: int = 3, patch: int = 16) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, patch, stride=patch)
        self.places = nn.Parameter(0.1 * torch.randn(1, width, 4, 4))
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, 3, 2 * width, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(depth)
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images) + self.places
        tokens = torch.cat([self.token.expand(len(x), -1, -1), x.flatten(2).movedim(1, 2)], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens[:, 1:].movedim(1, 2).unflatten(2, x.shape[2:])


def large() -> nn.Module:
    return Plain(width=96, depth=4)


def small() -> nn.Module:
    return Plain(width=24, depth=3)


def vit() -> nn.Module:
    return VisionTransformer(
        img_size=SIZE, patch_size=16, embed_dims=24, num_layers=2, num_heads=2, out_indices=(0, 1), drop_rate=0.0
    )


def mit(embed_dims: int = 8) -> nn.Module:
    return MixVisionTransformer(
        embed_dims=embed_dims, num_layers=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], drop_path_rate=0.0
    )


def swin() -> nn.Module:
    """Its blocks have windows, and its stages merge patches."""
    shape: dict[str, Any] = dict(depths=(1, 1), num_heads=(2, 2), strides=(4, 2), out_indices=(0, 1), window_size=4)
    return SwinTransformer(embed_dims=12, drop_path_rate=0.0, **shape)


def beit() -> nn.Module:
    """Its blocks have a bias for each pair of patches."""
    return BEiT(img_size=SIZE, patch_size=16, embed_dims=24, num_layers=2, num_heads=2, out_indices=(0, 1))


SHAPE: dict[str, Any] = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16)


class Dino(nn.Module):
    """A model of transformers, with a class token."""

    inner: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.inner = Dinov2Model(Dinov2Config(**SHAPE))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.inner(images).last_hidden_state[:, -16:]
        return tokens.movedim(1, 2).unflatten(2, (4, 4))


class Dino3(Dino):
    """Its blocks turn each patch by its place."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.inner = DINOv3ViTModel(DINOv3ViTConfig(**SHAPE, intermediate_size=48, num_register_tokens=4))


class Siglip(Dino):
    """Behind its blocks an attention pools all patches."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.inner = SiglipVisionModel(SiglipVisionConfig(**SHAPE, intermediate_size=48))


NETWORKS = {
    **{"plain": Plain, "vit": vit, "mit": mit, "dino": Dino, "convolutions": backbone},
    **{"swin": swin, "beit": beit, "dino3": Dino3, "siglip": Siglip},
}


def features(make: Callable[[], nn.Module], seed: int = 0) -> Features:
    torch.manual_seed(seed)
    return Features(make.__name__, make())


def masked(network: Features, masking: Masking, pixels: Tensor, masks: Tensor) -> list[Tensor]:
    with masking.only_visible(network.network, masks):
        return network(masking.hide(network.data_preprocessor(pixels), masks))


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_hidden_cannot_reach_the_network(name: str) -> None:
    network = features(NETWORKS[name]).eval()
    masking = Masking(0.5, patch_for(network))
    generator = torch.Generator().manual_seed(0)
    masks = masking.draw(2, SIZE, generator)
    pixels = 255 * torch.rand(2, 3, *SIZE, generator=generator)
    where = enlarged(masks, masking.patch)[:, None]
    one, other, moved = (
        masked(network, masking, torch.where(at, 255 * torch.rand(pixels.shape), pixels), masks)
        for at in (torch.zeros_like(where), where, ~where)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, other))  # to the bit
    assert not any(torch.equal(a, b) for a, b in zip(one, moved))  # and the visible ones are seen
    assert not any(torch.equal(a, b) for a, b in zip(one, network.of_pixels(pixels)))


def test_a_vision_transformer_works_on_visible_patches_alone() -> None:
    network = features(Plain).train()
    masking = Masking(0.75, 16)
    masks = masking.draw(2, SIZE, torch.Generator().manual_seed(0))
    pixels = 255 * torch.rand(2, 3, *SIZE)
    plain: Any = network.network
    seen: list[int] = []
    for block in plain.blocks:
        block.norm1.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[1]))
    (found,) = masked(network, masking, pixels, masks)
    assert seen == [5, 5, 5]  # of 16 patches four, and the class token
    images = network.data_preprocessor(pixels)
    for n in range(2):  # the same, typed straight down
        tokens = (plain.embed(images[n : n + 1]) + plain.places).flatten(2).movedim(1, 2)
        kept = (~masks[n]).flatten()
        tokens = torch.cat([plain.token, tokens[:, kept]], 1)
        for block in plain.blocks:
            tokens = block(tokens)
        torch.testing.assert_close(found[n].flatten(1)[:, kept], tokens[0, 1:].T)
        assert (found[n].flatten(1)[:, ~kept] == 0).all()
    assert torch.equal(network.of_pixels(pixels)[0], network.of_pixels(pixels)[0])  # no hook is left
    assert not plain.blocks[0]._forward_hooks


def test_blocks_are_found_in_each_library() -> None:
    counts = {name: len(transformer_blocks(make())) for name, make in NETWORKS.items()}
    assert counts.pop("convolutions") == 0
    assert counts == {"plain": 3, "vit": 2, "mit": 4, "dino": 2, "swin": 2, "beit": 2, "dino3": 2, "siglip": 2}
    sides = {name: patch_for(features(NETWORKS[name])) for name in ("beit", "dino3", "siglip", "swin")}
    assert sides == {"beit": 16, "dino3": 16, "siglip": 16, "swin": 32}


def test_as_many_patches_are_hidden_in_each_image_and_others_in_each_draw() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = Masking(0.6, 8).draw(100, (40, 64), generator)
    assert masks.shape == (100, 5, 8)
    assert (masks.flatten(1).sum(1) == 24).all()
    assert masks.float().mean(0).min() > 0.4
    assert masks.float().mean(0).max() < 0.8
    assert Masking(0.999, 8).draw(3, (16, 16), generator).flatten(1).sum(1).tolist() == [3, 3, 3]


def test_the_loss_is_that_of_hidden_patches_alone() -> None:
    masks = Masking(0.5, 8).draw(2, (16, 24), torch.Generator().manual_seed(0))
    images = torch.randn(2, 3, 16, 24, dtype=torch.float64)
    found = torch.randn(2, 6, 192, dtype=torch.float64)
    expected = []
    for n in range(2):
        for row in range(2):
            for column in range(3):
                if masks[n, row, column]:
                    patch = images[n, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].numpy().reshape(-1)
                    truth = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 1e-6)
                    expected.append(((found[n, 3 * row + column].numpy() - truth) ** 2).mean())
    loss = rebuilt(found, images, masks, 8)
    assert loss.item() == pytest.approx(np.mean(expected))
    visible = ~masks.flatten(1)
    assert rebuilt(found.masked_fill(visible[..., None], 7.0), images, masks, 8) == loss
    assert rebuilt(found + masks.flatten(1)[..., None], images, masks, 8) != loss
    torch.testing.assert_close(patches(images, 8)[1, 4], images[1, :, 8:, 8:16].flatten())


def test_the_decoder_knows_of_a_hidden_patch_its_place_alone() -> None:
    torch.manual_seed(0)
    decoder = Decoder(8, 16, width=32, depth=1).eval()
    masks = Masking(0.5, 16).draw(2, SIZE, torch.Generator().manual_seed(0))
    maps = torch.randn(2, 8, 4, 4)
    where = masks[:, None]
    for one, other in zip(decoder(maps, masks), decoder(torch.where(where, torch.randn(2, 8, 4, 4), maps), masks)):
        assert torch.equal(one, other)
    assert not torch.equal(decoder(maps, masks)[0], decoder(torch.where(where, maps, -maps), masks)[0])
    hidden = decoder(maps, masks)[1][0][masks[0].flatten()]
    assert not torch.allclose(hidden[0], hidden[1])


def test_tokens_of_each_layout_on_the_grid_of_the_masks() -> None:
    masks = torch.zeros(1, 2, 3, dtype=torch.bool)
    rows = torch.arange(24.0).view(1, 24, 1)  # 4 x 6 tokens
    mean = rows.view(1, 2, 2, 3, 2).mean((2, 4))
    torch.testing.assert_close(as_grid(rows, masks)[0, 0], mean[0])
    torch.testing.assert_close(as_grid(torch.cat([torch.full((1, 1, 1), 99.0), rows], 1), masks)[0, 0], mean[0])
    with pytest.raises(ValueError, match="5 tokens are no grid"):
        as_grid(rows[:, :5], masks)
    with pytest.raises(ValueError, match="coarser than 2 x 3 patches"):
        as_grid(torch.zeros(1, 1, 1, 1), masks)


def training(folder: Path, kind: str, student: Callable[[], nn.Module] = small, seed: int = 0, **options: Any) -> Any:
    given: dict[str, Any] = dict(steps=40, batch=8, size=SIZE, rate=2e-3, share=0.25, device="cpu", width=32, depth=1)
    given.update(options)
    return MaskedPretraining(
        features(student, seed), given.pop("teachers", {}), find_images(folder), kind=kind, **given
    )


@pytest.fixture(scope="module")
def taught(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Features, Autoencoder]:
    """A larger network that has learned to rebuild, and its auto-encoder."""
    run = training(photos, "mae", large, width=48)
    run.run(tmp_path_factory.mktemp("large"), every=40, say=lambda line: None)
    return run.student, run.autoencoder()


@pytest.mark.parametrize("student", [small, mit, backbone])
@pytest.mark.parametrize("kind", ["mae", "dmae", "g2sd"])
def test_each_kind_is_learned_on_images_held_out(
    photos: Path,
    tmp_path: Path,
    taught: tuple[Features, Autoencoder],
    kind: str,
    student: Callable[[], nn.Module],
) -> None:
    if kind == "dmae" and student is backbone:
        with pytest.raises(ValueError, match="backbone has no transformer blocks"):
            training(photos, kind, student, teachers={"large": taught[0]})
        return
    if kind == "g2sd" and student is not small:
        with pytest.raises(ValueError, match="the guide hides patches of 16 pixels, here they have 32"):
            training(photos, kind, student, guide=taught[1])
        return
    given = {"dmae": dict(teachers={"large": taught[0]}), "g2sd": dict(guide=taught[1])}.get(kind, {})
    before = [each.clone() for each in taught[0].parameters()]
    run = training(photos, kind, student, **given)
    run.run(tmp_path, every=20, say=lambda line: None)
    names = {"mae": ["held_out"], "dmae": ["held_out", "held_out rebuilt", "held_out large"], "g2sd": ["held_out"]}
    for name in names[kind]:
        assert run.history[-1][name] < run.history[0][name]
    assert all(torch.equal(a, b) for a, b in zip(before, taught[0].parameters()))


def test_teacher_and_student_of_dmae_see_the_same_patches(
    photos: Path,
    taught: tuple[Features, Autoencoder],
) -> None:
    run = training(photos, "dmae", teachers={"large": taught[0]})
    seen: dict[str, list[Tensor]] = {"student": [], "large": []}
    for name, network in (("student", run.student), ("large", taught[0])):
        network.network.register_forward_pre_hook(lambda _, given, name=name: seen[name].append(given[0]))
    last: list[int] = []
    taught[0].network.blocks[3].register_forward_pre_hook(lambda *given: last.append(1))
    run._learn((255 * torch.rand(4, 3, *SIZE)).byte())
    assert torch.equal(seen["student"][0], seen["large"][0])
    hidden = (seen["large"][0] == 0).all(1).float().mean()
    assert hidden == 0.75
    assert not last  # it stops after block 17/24 of four, the third


def test_a_pause_changes_nothing(photos: Path, tmp_path: Path) -> None:
    straight, first, second = (training(photos, "mae", steps=6) for _ in range(3))
    straight.run(tmp_path / "a", every=3, say=lambda line: None)

    def killed(line: str) -> None:
        if "step 3/" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(tmp_path / "b", every=3, say=killed)
    second.resume(tmp_path / "b" / "training.pth")
    second.run(tmp_path / "b", every=3, say=lambda line: None)
    assert straight.history == second.history
    for one, other in zip(straight.student.parameters(), second.student.parameters()):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match=r"hidden 0\.75, now 0\.5"):
        training(photos, "mae", steps=6, hidden=0.5).resume(tmp_path / "b" / "training.pth")


def test_g2sd_goes_on_with_the_same_guide_alone(
    photos: Path, tmp_path: Path, taught: tuple[Features, Autoencoder]
) -> None:
    training(photos, "g2sd", guide=taught[1]).save(tmp_path / "training.pth")
    training(photos, "g2sd", guide=taught[1]).resume(tmp_path / "training.pth")
    other = training(photos, "mae", large, width=48).autoencoder()
    with pytest.raises(ValueError, match=r"other options: guide '\w+', now"):
        training(photos, "g2sd", guide=other).resume(tmp_path / "training.pth")


def test_further_starts_from_the_first_weights_and_ends_near_its_later_self(
    photos: Path,
    tmp_path: Path,
) -> None:
    options: dict[str, Any] = dict(steps=30, batch=8, size=SIZE, rate=2e-3, share=0.25, device="cpu", width=32, depth=1)
    student, images = features(small), find_images(photos)
    run = further(student, images, tmp_path, every=30, say=lambda line: None, **options)
    alone = training(photos, "mae", **{key: options[key] for key in ("steps",)})
    alone.run(tmp_path / "alone", every=30, say=lambda line: None)
    later = run.teachers["later"]
    for one, other in zip(later.parameters(), alone.student.parameters()):
        assert torch.equal(one, other)  # the teacher is the student after a training of kind mae
    assert run.history[-1]["held_out later"] < run.history[0]["held_out later"]
    begin = MaskedPretraining(features(small), {"later": later}, images, kind="further", **options)
    assert begin.validate()["held_out later"] == pytest.approx(run.history[0]["held_out later"])  # from where it began
    same = MaskedPretraining(features(small), {"later": features(small)}, images, kind="further", **options)
    assert same.validate()["held_out later"] == 0


def test_what_does_not_fit_is_named(photos: Path, taught: tuple[Features, Autoencoder], tmp_path: Path) -> None:
    large_one, guide = taught
    for told, kind, given in (
        ("kind is one of mae, dmae", "maee", {}),
        ("mae needs no teacher", "mae", dict(teachers={"large": large_one})),
        ("dmae needs teachers", "dmae", {}),
        ("g2sd needs a masked auto-encoder", "g2sd", {}),
        ("mae needs no teacher", "mae", dict(guide=guide)),
        ("between 0 and 1, got 1.0", "mae", dict(hidden=1.0)),
        ("no multiples of the patches of 16 pixels", "mae", dict(size=(60, 64))),
        ("have a single patch", "mae", dict(patch=64)),
        ("do not divide those that are hidden, 24 pixels", "mae", dict(patch=24, size=(48, 48))),
        ("a width that is a multiple of 16", "mae", dict(width=20)),
    ):
        with pytest.raises(ValueError, match=told):
            training(photos, kind, **given)
    training(photos, "dmae", teachers={"large": large_one}).save(tmp_path / "training.pth")
    with pytest.raises(ValueError, match="no training of kind mae"):
        autoencoder(features(small), tmp_path)


def test_the_commands_of_both_stages(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rest = ["--images", str(photos), "--steps", "2", "--batch", "4", "--size", "64", "64", "--every", "1"]
    main([f"{HERE}:large", "--masked", "mae", "--out", str(tmp_path / "large"), *rest])
    small_one = [f"{HERE}:small", "--masked", "g2sd", "--teacher", str(tmp_path / "large")]
    main([*small_one, "--out", str(tmp_path / "generic"), *rest])
    said = capsys.readouterr().out
    assert "guide" in said
    facts = json.loads((tmp_path / "generic" / "backbone.json").read_text())
    assert (facts["kind"], facts["hidden"], facts["patch"]) == ("g2sd", 0.75, 16)
    main([f"{HERE}:small", "--masked", "further", "--hidden", "0.5", "--out", str(tmp_path / "later"), *rest])
    assert json.loads((tmp_path / "later" / "backbone.json").read_text())["hidden"] == 0.5
    for wrong, told in (
        (["--masked", "mae", "--teacher", "lite0"], "--masked mae has no --teacher"),
        (["--masked", "dmae"], "--teacher is missing"),
        (["--teacher", "lite0", "--hidden", "0.5"], "--hidden goes with --masked"),
    ):
        with pytest.raises(SystemExit):
            main([f"{HERE}:small", *wrong, "--out", str(tmp_path / "no"), *rest])
        assert told in capsys.readouterr().err


def test_after_the_generic_stage_g2sd_is_the_specific_one_alone() -> None:
    model, _ = build_model(CONFIGS / "seg.py")
    (entry,) = method_entries(dict(type="g2sd", generic=0.0), model, model)
    assert (entry["loss"], entry["student"]) == ("pseudo", "decode_head.conv_seg")
    both = method_entries("g2sd", model, model)
    assert [each["name"] for each in both] == ["generic", "specific"]
    with pytest.raises(ValueError, match=r"share of the training that is the first stage, in \[0, 1\), got 1\.0"):
        method_entries(dict(type="g2sd", generic=1.0), model, model)

"""Models of transformers: the maps are where their own code puts them, and images are normalised as theirs are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, SamImageProcessorPil, SegformerConfig, ViTConfig, ViTModel

from densekd.hub.families import FAMILIES, from_transformers

from .checkpoints import MODELS, saved

HEIGHT, WIDTH = 64, 96


def grid(tokens: Tensor, rows: int) -> Tensor:
    """Patch tokens, row by row, as a map."""
    return torch.stack(tokens.chunk(rows, dim=1), dim=1).permute(0, 3, 1, 2)


def expected(family: str, model: Any, images: Tensor) -> list[Tensor]:
    """The maps, from the outputs of the model that was saved."""
    if family.startswith("dinov2"):  # patches of 14: to 70 x 98
        images = F.interpolate(images, size=(70, 98), mode="bilinear", align_corners=False)
        extra = 5 if family.endswith("registers") else 1
        return [grid(model(images).last_hidden_state[:, extra:], 5)]
    if family == "dinov3_vit":
        return [grid(model(images).last_hidden_state[:, 5:], 4)]
    if family in ("clip", "clip_vision_model", "siglip", "siglip_vision_model"):
        tower = getattr(model, "vision_model", model)
        tokens = tower(images, interpolate_pos_encoding=True).last_hidden_state
        return [grid(tokens[:, family.split("_")[0] == "clip" :], 8)]
    if family == "sam":  # the longer side is 64, the rest is zeros
        image = F.interpolate(images, size=(43, 64), mode="bilinear", align_corners=False)
        maps = model.vision_encoder(F.pad(image, (0, 0, 0, 21))).last_hidden_state
        return [maps[:, :, :5]]
    if family == "mask2former":
        found = model.model(images, output_hidden_states=True)
        return [found.pixel_decoder_last_hidden_state, *found.pixel_decoder_hidden_states[::-1]]
    body = getattr(model, "segformer", model)
    return list(body(images, output_hidden_states=True).hidden_states[-4:])


@pytest.mark.parametrize("family", sorted(MODELS))
def test_maps_are_those_of_the_model(family: str, tmp_path: Path) -> None:
    model = saved(family, tmp_path)
    teacher = from_transformers(str(tmp_path)).eval()
    images = torch.randn(2, 3, HEIGHT, WIDTH)
    with torch.no_grad():
        maps, wanted = teacher(images), expected(family, model, images)
    for one, other in zip(maps, wanted, strict=True):
        assert one.shape[2] * WIDTH == pytest.approx(one.shape[3] * HEIGHT, rel=0.2)  # the image's aspect
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_every_family_is_tried() -> None:
    assert {*FAMILIES} - {*MODELS} == {"sam_vision_model"}  # what SAM's encoder alone is saved as


def test_a_patch_stands_where_it_is_in_the_image(tmp_path: Path) -> None:
    """Of a model without attention a change in the image changes the map there."""
    model = saved("dinov2_with_registers", tmp_path)
    for layer in model.encoder.layer:
        torch.nn.init.zeros_(layer.layer_scale1.lambda1)
    model.save_pretrained(tmp_path)
    teacher = from_transformers(str(tmp_path)).eval()
    images = torch.zeros(1, 3, 5 * 14, 7 * 14)
    changed = images.clone()
    changed[:, :, 3 * 14 + 5, 6 * 14 + 2] = 1
    difference = (teacher(changed)[0] - teacher(images)[0]).abs().sum(1)[0]
    assert (difference > 1e-6).nonzero().tolist() == [[3, 6]]


@pytest.mark.parametrize("processor", [CLIPImageProcessorPil(do_resize=False, do_center_crop=False), None])
def test_pixels_are_what_the_familys_processor_makes(processor: Any, tmp_path: Path) -> None:
    saved("clip", tmp_path)
    if processor is not None:
        processor.image_mean = [0.1, 0.2, 0.3]  # one of its own
        processor.save_pretrained(tmp_path)
    teacher = from_transformers(str(tmp_path))
    own = processor or CLIPImageProcessorPil(do_resize=False, do_center_crop=False)
    pixels = torch.randint(0, 256, (HEIGHT, WIDTH, 3), dtype=torch.uint8)
    theirs = own(Image.fromarray(pixels.numpy()), return_tensors="pt")["pixel_values"]
    mine = teacher.data_preprocessor(pixels.permute(2, 0, 1)[None].float())
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert ("as published" in teacher.told()) == (processor is None)


def test_sam_gets_the_image_that_its_processor_makes(tmp_path: Path) -> None:
    saved("sam", tmp_path)
    teacher = from_transformers(str(tmp_path))
    own = SamImageProcessorPil(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64})
    flat = torch.tensor([200, 100, 50], dtype=torch.uint8).expand(HEIGHT, WIDTH, 3)
    theirs = own(Image.fromarray(flat.numpy()), return_tensors="pt")["pixel_values"]
    mine, (height, width) = teacher._sized(teacher.data_preprocessor(flat.permute(2, 0, 1)[None].float()))
    assert (height, width) == (43, 64)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_values_that_are_not_rescaled_or_normalised(tmp_path: Path) -> None:
    saved("dinov2", tmp_path)
    for told, scale, shift in (
        ({"do_rescale": False, "image_mean": [1, 2, 3], "image_std": [2, 2, 2]}, 0.5, -0.5),
        ({"do_normalize": False}, 1 / 255, 0.0),
    ):
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
        pixels = from_transformers(str(tmp_path)).data_preprocessor
        assert pixels(torch.full((1, 3, 1, 1), 10.0))[0, 0].item() == pytest.approx(10 * scale + shift)


@pytest.mark.parametrize("told", ["{", "[]", '{"image_mean": 0.5}', '{"image_std": [0.5]}', '{"image_std": [0, 0, 0]}'])
def test_a_damaged_preprocessor_is_named(told: str, tmp_path: Path) -> None:
    saved("dinov2", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(told)
    with pytest.raises(ValueError, match=r"teacher hf:.*preprocessor_config\.json cannot be understood: "):
        from_transformers(str(tmp_path))


def test_damaged_weights_and_those_of_another_size_are_named(tmp_path: Path) -> None:
    saved("dinov2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "patch_size": 7}))
    with pytest.raises(ValueError, match=r"lacks \d weights of Dinov2Model, such as embeddings"):
        from_transformers(str(tmp_path))
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"teacher hf:.*: its weights are damaged"):
        from_transformers(str(tmp_path))


def test_an_unknown_family_is_named(tmp_path: Path) -> None:
    ViTModel(
        ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"is a 'vit', whose maps are not known here; .* 'module:name'"):
        from_transformers(str(tmp_path))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    model = saved("segformer", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"cannot be read: .*safetensors"):
        from_transformers(str(tmp_path))


def test_code_in_a_folder_is_not_run(tmp_path: Path) -> None:
    saved("dinov2", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "of_its_own", "auto_map": {"AutoConfig": "evil.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    with pytest.raises((ValueError, FileNotFoundError)):
        from_transformers(str(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_weights_that_lack_a_layer_are_refused(tmp_path: Path) -> None:
    saved("segformer", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "depths": [1, 1, 2, 1]}))
    with pytest.raises(ValueError, match=r"lacks \d+ weights of SegformerModel, such as"):
        from_transformers(str(tmp_path))
    assert SegformerConfig.from_pretrained(tmp_path).depths == [1, 1, 2, 1]


def test_a_folder_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError, match="there is no such folder"):
        from_transformers("./no/such/folder")

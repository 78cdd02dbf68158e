"""Vision models of transformers as teachers: how each family takes images, and where its maps are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import Tensor, nn

from densekd.hub.features import IMAGENET, Features, Pixels
from kdlosses.options import nearest

CLIP = (122.7709383, 116.7460125, 104.09373615), (68.5005327, 66.6321579, 70.32316305)
HALF = (127.5, 127.5, 127.5), (127.5, 127.5, 127.5)


class Family(NamedTuple):
    """One family of models.

    Args:
        model: name of its class in transformers.
        normalisation: mean and deviation that it was published with, of 0 to 255.
        kind: 'tokens' after a class token and registers, 'patches' alone, 'stages' of a pyramid, or 'map'.
        options: of the model's forward.
        part: the part of the model that yields the maps; all of it if not given.
    """

    model: str
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    kind: str = "tokens"
    options: Mapping[str, Any] = MappingProxyType({})
    part: str | None = None


_RESIZED = {"interpolate_pos_encoding": True}
_STAGES = {"output_hidden_states": True}
FAMILIES = {
    "dinov2": Family("Dinov2Model"),
    "dinov2_with_registers": Family("Dinov2WithRegistersModel"),
    "dinov3_vit": Family("DINOv3ViTModel"),
    "dinov3_convnext": Family("DINOv3ConvNextModel", kind="stages", options=_STAGES),
    **dict.fromkeys(("clip", "clip_vision_model"), Family("CLIPVisionModel", CLIP, options=_RESIZED)),
    **dict.fromkeys(("siglip", "siglip_vision_model"), Family("SiglipVisionModel", HALF, "patches", _RESIZED)),
    **dict.fromkeys(("sam", "sam_vision_model"), Family("SamVisionModel", kind="map")),
    "segformer": Family("SegformerModel", kind="stages", options=_STAGES),
    "mask2former": Family("Mask2FormerModel", kind="stages", part="pixel_level_module"),
}
"""By `model_type` of their configs."""


def from_transformers(source: str) -> Features:
    """Return a vision model of transformers, with its weights, as a teacher.

    | family | maps | images |
    | --- | --- | --- |
    | DINOv2, DINOv3 (ViT) | last layer, without class and register tokens | sides to multiples of the patch |
    | CLIP, SigLIP | last layer of the vision tower, without class token | the same |
    | SAM | image encoder with its neck | longer side to the model's size, padded |
    | SegFormer, DINOv3 (ConvNeXt) | all stages | sides to multiples of 32 |
    | Mask2Former | mask features of stride 4, and its pixel decoder's maps of strides 8, 16, 32 | the same |

    Positions are interpolated as the model itself does it. Images are normalised as the `preprocessor_config.json` of
    the model says, else as the family was published; they keep their size but for the rule above, whatever size that
    file names. Weights are read from safetensors alone, and no code that comes with a model is run.

    Args:
        source: a folder that `save_pretrained` wrote, or a name that transformers finds in its cache or on its hub.

    Raises:
        FileNotFoundError: there is no such folder, and no such model in reach; or it has no safetensors.
        ValueError: a family that is not known here, or weights that do not fill the model.
        ModuleNotFoundError: transformers is not installed.
    """
    if not source:
        raise ValueError("'hf:' needs a folder or a name after it, such as hf:facebook/dinov2-with-registers-small")
    import transformers

    is_folder = Path(source).expanduser().is_dir()
    where = str(Path(source).expanduser()) if is_folder else source
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1
    if not is_folder and looks_like_path:
        raise FileNotFoundError(f"teacher hf:{source}: there is no such folder")
    with reading(f"hf:{source}"):
        config = transformers.AutoConfig.from_pretrained(where, trust_remote_code=False)
        family = FAMILIES.get(config.model_type)
        if family is None:
            raise ValueError(
                f"teacher hf:{source} is a {config.model_type!r}, whose maps are not known here; "
                f"{nearest(config.model_type, FAMILIES)}. Any other network: 'module:name', a function that returns it"
            )
        kind = getattr(transformers, family.model)
        model, report = kind.from_pretrained(
            where, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True
        )
    check_filled(f"teacher hf:{source}", family.model, report)
    (mean, std, rgb), origin = normalisation(where, family, config.model_type)
    vision = model.config
    return Features(
        f"hf:{source}",
        _Called(model.get_submodule(family.part) if family.part else model, family.options),
        mean,
        std,
        rgb,
        multiple=32 if family.kind == "stages" else side(getattr(vision, "patch_size", 1)),
        square=side(vision.image_size) if family.kind == "map" else None,
        read=_reader(family, vision),
        note=origin,
    )


def check_filled(what: str, kind: str, report: Mapping[str, Any]) -> None:
    """Raise `ValueError` if the weights that transformers loaded, by its `report`, do not fill a model of a `kind`."""
    lacking = [*report["missing_keys"], *(each[0] for each in report["mismatched_keys"])]
    if lacking:
        raise ValueError(f"{what} lacks {len(lacking)} weights of {kind}, such as {lacking[0]}")


class _Called(nn.Module):
    """A model of transformers, called on images with its options."""

    def __init__(self, model: nn.Module, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.model, self.options = model, dict(options)

    def forward(self, images: Tensor) -> Any:
        return self.model(pixel_values=images, **self.options)


def _reader(family: Family, config: Any) -> Callable[[Any, tuple[int, int]], Sequence[Tensor]]:
    if family.part is not None:

        def of_decoder(found: Any, size: tuple[int, int]) -> Sequence[Tensor]:
            return [found.decoder_last_hidden_state, *reversed(found.decoder_hidden_states)]

        return of_decoder
    if family.kind == "stages":
        count = len(config.hidden_sizes)
        return lambda found, size: found.hidden_states[-count:]
    if family.kind == "map":
        return lambda found, size: [found.last_hidden_state]
    patch = side(config.patch_size)
    extra = (1 + getattr(config, "num_register_tokens", 0)) if family.kind == "tokens" else 0

    def of_tokens(found: Any, size: tuple[int, int]) -> Sequence[Tensor]:
        tokens = found.last_hidden_state[:, extra:]
        return [tokens.transpose(1, 2).unflatten(2, (size[0] // patch, size[1] // patch))]

    return of_tokens


def normalisation(where: str, family: Family, kind: str) -> tuple[tuple[list[float], list[float], bool], str]:
    """Mean and deviation of pixels of 0 to 255, whether red is first, and where that is from."""
    from transformers.utils import cached_file

    for file in ("preprocessor_config.json", "processor_config.json"):
        path = cached_file(where, file, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            try:
                found = json.loads(Path(path).read_text(encoding="utf-8"))
                found = found.get("image_processor", found)
                return _told(found, family), f"normalisation of its {file}"
            except (ValueError, TypeError, AttributeError, ZeroDivisionError) as error:
                raise ValueError(f"teacher hf:{where}: {path} cannot be understood: {error}") from error
    mean, std = ([*values] for values in family.normalisation)
    return (mean, std, True), f"normalisation of {kind} as published, there is no preprocessor_config.json"


def _told(found: Mapping[str, Any], family: Family) -> tuple[list[float], list[float], bool]:
    """Mean, deviation and whether red is first, as a preprocessor's config says."""
    mean, std = ([*values] for values in family.normalisation)
    scale = found.get("rescale_factor", 1 / 255) if found.get("do_rescale", True) else 1.0
    if not found.get("do_normalize", True):
        mean, std = [0.0] * 3, [1 / scale] * 3
    else:
        if found.get("image_mean") is not None:
            mean = [value / scale for value in found["image_mean"]]
        if found.get("image_std") is not None:
            std = [value / scale for value in found["image_std"]]
    Pixels(mean, std)  # of three channels, and not zero
    return mean, std, not found.get("do_flip_channel_order", False)


def side(size: Any) -> int:
    """The side of a square, given as a number or twice."""
    sides = {*size.values()} if isinstance(size, dict) else {*size} if isinstance(size, list | tuple) else {size}
    if len(sides) > 1:
        raise ValueError(f"patches and images that are not square, {size}, are not known here")
    return int(sides.pop())


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Keep transformers quiet, and name the teacher in what it raises."""
    from safetensors import SafetensorError
    from transformers.utils import logging

    verbosity, shown = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except OSError as error:
        raise FileNotFoundError(f"teacher {name} cannot be read: {' '.join(str(error).split())}") from error
    except SafetensorError as error:
        raise ValueError(f"teacher {name}: its weights are damaged: {error}") from error
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()

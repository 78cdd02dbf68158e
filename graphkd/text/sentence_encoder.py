"""Read the sentence-encoder files of a model folder, in the layouts of sentence-transformers 2 to 6."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

Pool = Literal["mean", "last", "first"]

POOLS: dict[str, Pool] = {"mean": "mean", "cls": "first", "lasttoken": "last"}
"""Pooling modes of sentence-transformers that are read here, and what they are called here."""

DENSE = "2_Dense"
"""Folder of an output layer beside a model, as `graphkd.text.align` writes it."""

_POOLING = "1_Pooling"
_BOOLEANS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_ACTIVATIONS = {each.__name__: each for each in (nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.Sigmoid, nn.SiLU)}


@dataclass(frozen=True)
class SentenceEncoder:
    """How the model of a folder turns a text into one vector.

    Attributes:
        network: folder of the network and its tokenizer.
        pool: what stands for a text; None where no file says so.
        output: layers on what stands for it.
        unit: scale the vector to length 1.
        prompt: what stands before every text.
        longest: tokens that it reads at most, if a file says so.
        lower: put texts into lower case.
    """

    network: Path
    pool: Pool | None = None
    output: nn.Module | None = None
    unit: bool = False
    prompt: str = ""
    longest: int | None = None
    lower: bool = False

    @staticmethod
    def folder_of(folder: Path) -> Path:
        """The folder of the network of a sentence encoder."""
        return _modules(folder)[0][1]

    @classmethod
    def of(cls, folder: Path, pool: Pool | None = None) -> SentenceEncoder:
        """Read `modules.json` and the files that it names.

        Args:
            folder: of the model.
            pool: takes the place of what the folder says.

        Raises:
            ValueError: a module, a pooling mode or an option that is not read here, by name, or a file that is missing
                or damaged.
        """
        (_, first), *rest = _modules(folder)
        prompt = _prompt(folder)
        told: Pool | None = None
        layers: list[nn.Module] = []
        unit = False
        for kind, place in rest:
            if kind == "Pooling":
                told = pool or _pool(place, prompt)
            elif kind == "Normalize":
                unit = True
            elif kind == "Dense" and unit:
                raise ValueError(f"{folder / 'modules.json'}: a Dense module behind Normalize is not supported")
            elif kind == "Dense":
                layers.append(_dense(place))
        output = None if not layers else layers[0] if len(layers) == 1 else nn.Sequential(*layers)
        longest, lower = _limits(first)
        return cls(first, pool or told, output, unit, prompt, longest, lower)


def dense_files(folder: Path) -> list[Path]:
    """Files of the encoder's output layers."""
    places = [place for kind, place in _modules(folder) if kind == "Dense" and place.is_dir()]
    return [file for place in places for file in place.iterdir()]


def copy_parts(folder: Path, path: Path) -> None:
    """Copy the files beside a sentence encoder's network into another folder."""
    for kind, place in _modules(folder):
        if kind != "Transformer" and place.is_dir():
            shutil.copytree(place, path / place.relative_to(folder))
    if (folder / "modules.json").is_file():
        shutil.copy(folder / "modules.json", path)
    copy_options(folder, path, SentenceEncoder.folder_of(folder).relative_to(folder))


def copy_options(folder: Path, path: Path, inner: Path = Path()) -> None:
    """Copy the prompts, and the network's options to the folder `inner` of the other one."""
    if (folder / "config_sentence_transformers.json").is_file():
        shutil.copy(folder / "config_sentence_transformers.json", path)
    for file in SentenceEncoder.folder_of(folder).glob("sentence_*_config.json"):
        shutil.copy(file, path / inner)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is missing or no JSON.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: copy the model's folder again, with all its files")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is no JSON ({error}): copy the model's folder again, with all its files") from error


def _object(path: Path) -> dict[str, Any]:
    found = read_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds a {type(found).__name__}; expected an object")
    return found


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Kind and folder of each module, the network first."""
    file = folder / "modules.json"
    if not file.is_file():
        found = [("Transformer", folder)]
        found += [("Pooling", folder / _POOLING)] if (folder / _POOLING).is_dir() else []
        return found + ([("Dense", folder / DENSE)] if (folder / DENSE).is_dir() else [])
    told = read_json(file)
    if not isinstance(told, list) or not all(isinstance(each, dict) and "type" in each for each in told):
        raise ValueError(f"{file}: expected a list of objects with 'type' and 'path'")
    found = []
    for each in told:
        package, _, kind = str(each["type"]).rpartition(".")
        place = folder / str(each.get("path") or "")
        if folder.resolve() not in (place.resolve(), *place.resolve().parents):
            raise ValueError(f"{file} names {each.get('path')!r}, which is outside of the folder")
        ours = package.split(".")[0] == "sentence_transformers"
        if not ours or kind not in ("Transformer", "Pooling", "Dense", "Normalize", "Dropout"):
            raise ValueError(
                f"{file}: a module of the kind {each['type']!r} is not supported; supported are Transformer, Pooling, "
                "Dense, Normalize and Dropout of sentence_transformers"
            )
        found.append((kind, place))
    kinds = [kind for kind, _ in found if kind != "Dropout"]  # which does nothing once a model is trained
    if kinds[:1] != ["Transformer"] or kinds.count("Transformer") > 1 or kinds[1:2] not in ([], ["Pooling"]):
        raise ValueError(f"{file}: the modules are {', '.join(kinds)}; supported is Transformer, Pooling, then others")
    if kinds.count("Pooling") > 1:
        raise ValueError(f"{file}: the modules are {', '.join(kinds)}; one Pooling is supported")
    return [(kind, place) for kind, place in found if kind != "Dropout"]


def _pool(folder: Path, prompt: str) -> Pool:
    file = folder / "config.json"
    told = _object(file)
    found = told.get("pooling_mode")
    if found is None:
        found = [mode for key, mode in _BOOLEANS.items() if told.get(key)]
        strange = [key for key in told if key.startswith("pooling_mode_") and key not in _BOOLEANS and told[key]]
        found = [*found, *strange] or ["mean"]  # what sentence-transformers does where a file names none
    modes = [found] if isinstance(found, str) else found
    remedy = (
        f"supported is one of {', '.join(POOLS)}; or choose what stands for a text by pool='mean', 'last' or 'first'"
    )
    if not isinstance(modes, list) or len(modes) != 1 or modes[0] not in POOLS:
        named = " and ".join(map(str, modes)) if isinstance(modes, list) else repr(modes)
        raise ValueError(f"{file}: the pooling mode {named or 'of an empty list'} is not supported; {remedy}")
    if prompt and told.get("include_prompt") is False:
        raise ValueError(
            f"{file}: include_prompt false, pooling without the prompt's tokens, is not supported; {remedy}"
        )
    return POOLS[modes[0]]


def _dense(folder: Path) -> nn.Module:
    file = folder / "config.json"
    told = _object(file)
    if missing := [key for key in ("in_features", "out_features") if not isinstance(told.get(key), int)]:
        raise ValueError(f"{file} does not say {missing[0]}, a number")
    named = str(told.get("activation_function") or "torch.nn.Identity")
    name = named.rpartition(".")[2]
    if not named.startswith("torch.nn.") or name not in _ACTIVATIONS:
        raise ValueError(f"{file}: the activation {named!r} is not supported; supported are {', '.join(_ACTIVATIONS)}")
    for key, plain in (("module_input_name", "sentence_embedding"), ("module_output_name", "sentence_embedding")):
        if told.get(key) not in (None, plain):
            raise ValueError(f"{file}: {key} {told[key]!r} is not supported; supported is {plain!r}")
    if told.get("use_residual"):
        raise ValueError(f"{file}: use_residual is not supported")
    layer = nn.Linear(told["in_features"], told["out_features"], bias=bool(told.get("bias", True)))
    weights = folder / "model.safetensors"
    if not weights.is_file():
        hint = ", only a pickle, which is not opened" if (folder / "pytorch_model.bin").is_file() else ""
        raise ValueError(
            f"{folder} has no model.safetensors{hint}; save the model again with sentence-transformers, "
            "SentenceTransformer(FOLDER).save(NEW)"
        )
    try:
        state = {key.removeprefix("linear."): each for key, each in load_file(weights).items()}
        layer.load_state_dict({key: each.to(torch.float32) for key, each in state.items()})
    except (SafetensorError, RuntimeError) as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{weights} does not hold the layer that {file} describes: {what}") from error
    layer.requires_grad_(False)
    return layer if name == "Identity" else nn.Sequential(layer, _ACTIVATIONS[name]())


def _prompt(folder: Path) -> str:
    """The prompt that the encoder sets before every text by default."""
    file = folder / "config_sentence_transformers.json"
    if not file.is_file():
        return ""
    told = _object(file)
    name, prompts = told.get("default_prompt_name"), told.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict) or name not in prompts:
        raise ValueError(f"{file}: default_prompt_name is {name!r}, which is none of its prompts: {sorted(prompts)}")
    return str(prompts[name] or "")


def _limits(network: Path) -> tuple[int | None, bool]:
    """The greatest length that a file names, and whether texts are put into lower case."""
    longest: int | None = None
    lower = False
    for file in sorted(network.glob("sentence_*_config.json")):
        told = _object(file)
        found = told.get("max_seq_length")
        if found is not None and (isinstance(found, bool) or not isinstance(found, int) or found < 1):
            raise ValueError(f"{file}: max_seq_length counts tokens from 1, got {found!r}")
        longest = found if longest is None else min(longest, found or longest)
        lower = lower or bool(told.get("do_lower_case"))
    return longest, lower

"""Open model folders of transformers, after checking that they are complete and consistent."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForTextEncoding, AutoTokenizer
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_TEXT_ENCODING_MAPPING

from graphkd.text.sentence_encoder import SentenceEncoder, dense_files, read_json

UNLIMITED = 1 << 30
"""Context of a model that names no greatest length, in tokens."""


def weights_mark(folder: str | Path) -> str:
    """Hash of all files in a model's folder that affect its output."""
    digest, folder = hashlib.blake2b(digest_size=16), Path(folder)
    network = SentenceEncoder.folder_of(folder)
    inside = [] if network == folder else list(network.iterdir())
    for path in sorted([*folder.iterdir(), *dense_files(folder), *inside]):
        if path.suffix in (".safetensors", ".json", ".txt", ".model"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
    return digest.hexdigest()


def find_folder(name: str) -> str:
    if Path(name).is_dir():
        return name
    if Path(name).is_file():
        raise ValueError(
            f"{name} is a file; pass the folder that holds config.json, model.safetensors and the tokenizer"
        )
    try:
        return snapshot_download(name, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise FileNotFoundError(
            f"there is no language model {name!r}: no such folder, and nothing of that name in the hub's cache. Where "
            f"there is a network, `hf download {name} --local-dir FOLDER` fetches it; then pass FOLDER"
        ) from error


@contextmanager
def kind_named(folder: Path, config: Any) -> Iterator[None]:
    """Add the kind of model to errors raised inside."""
    try:
        yield
    except (MemoryError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        kind = " or ".join([*(config.architectures or ()), config.model_type])
        raise ValueError(
            f"{folder} holds a model of the kind {kind}, which could not be read as an encoder or a causal language "
            f"model of texts: {_line(error)}"
        ) from error


def read_config(folder: Path) -> Any:
    """Read the network's configuration; raise if the folder does not hold a complete model."""
    if (folder / "adapter_config.json").is_file():
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
        raise ValueError(
            f"{folder} holds an adapter of peft, not the model that it belongs to ({base}); merge them first: "
            "PeftModel.from_pretrained(base, ADAPTER).merge_and_unload().save_pretrained(FOLDER)"
        )
    if not (folder / "config.json").is_file():
        found = ", ".join(sorted(each.name for each in folder.iterdir())[:5]) or "nothing"
        raise ValueError(
            f"{folder} holds no model and tokenizer of transformers: config.json is missing, found {found}"
        )
    told = read_json(folder / "config.json")
    if not isinstance(told, dict) or "model_type" not in told:
        raise ValueError(f"{folder / 'config.json'} is none of transformers' models: it has no model_type")
    if "auto_map" in told and told["model_type"] not in CONFIG_MAPPING:
        raise ValueError(f"{folder}: models of the kind {told['model_type']!r} come with custom code, which is not run")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"{folder / 'config.json'} could not be read: {_line(error)}") from error


def read_tokenizer(folder: Path) -> Any:
    """Read the tokenizer; raise if its files are missing, where transformers would make an empty one."""
    remedy = (
        "copy the files of the tokenizer into the folder: tokenizer.json, or the vocabulary (vocab.txt, vocab.json and "
        "merges.txt, or a .model), and tokenizer_config.json"
    )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"{folder} holds no tokenizer that could be read: {_line(error)}; {remedy}") from error
    wanted = sorted({name for name in type(tokenizer).vocab_files_names.values() if name})
    if wanted and not any((folder / name).is_file() for name in ("tokenizer.json", *wanted)):
        raise ValueError(f"{folder} has no tokenizer files, {' or '.join(wanted)}; {remedy}")
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError(f"the tokenizer in {folder} has no words, only special tokens; {remedy}")
    return tokenizer


def cut(config: Any, layers: int, folder: Path) -> None:
    """Keep the first `layers` layers."""
    config = config.get_text_config()
    name = "encoder_layers" if hasattr(config, "encoder_layers") else "num_hidden_layers"
    whole = getattr(config, name, None)
    if whole is None:
        raise ValueError(f"{folder}: the first layers of a {config.model_type} cannot be taken; leave out layers")
    if not 1 <= layers <= whole:
        raise ValueError(f"{folder} has {whole} layers; layers must be from 1 to {whole}, got {layers}")
    setattr(config, name, layers)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]


def read_network(folder: Path, config: Any, dtype: torch.dtype, cut: bool) -> Any:
    """Read the network with all of its weights from the folder."""
    if not any((folder / f"model.safetensors{end}").is_file() for end in ("", ".index.json")):
        pickled = sorted(each.name for each in folder.glob("*.bin"))
        hint = f"only {pickled[0]}, a pickle, which is not opened; " if pickled else ""
        raise ValueError(
            f"{folder} has no model.safetensors, {hint or 'no weights; '}save the model again: "
            "AutoModel.from_pretrained(FOLDER).save_pretrained(NEW), AutoModelForCausalLM for one that writes"
        )
    named = any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in config.architectures or ())
    reader: Any = AutoModel
    found: Any = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(config), None)
    if found is not None and found.__name__.endswith("EncoderModel"):  # of an encoder-decoder, without the decoder
        reader, config.is_encoder_decoder = AutoModelForTextEncoding, False
    elif named and not config.is_encoder_decoder and type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        reader = AutoModelForCausalLM
    try:
        network, report = reader.from_pretrained(
            *(folder,),
            **dict(config=config, local_files_only=True, trust_remote_code=False, dtype=dtype, use_safetensors=True),
            **dict(output_loading_info=True, ignore_mismatched_sizes=True),
        )
    except SafetensorError as error:
        raise ValueError(
            f"the weights in {folder} are damaged or cut short ({_line(error)}): copy or download them again"
        ) from error
    except Exception as error:
        with kind_named(folder, config):
            raise error
    with kind_named(folder, config):
        network.eval()
        wrong = [str(each[0] if isinstance(each, tuple) else each) for each in report["mismatched_keys"]]
        missing = _needed(network, sorted(report["missing_keys"]))
        deeper = [] if cut else _deeper(network, sorted(report["unexpected_keys"]))
    for keys, what in (
        (missing, "are missing and would be drawn at random"),
        (sorted(wrong), "have other sizes than config.json says"),
        (deeper, "belong to more layers than config.json says and would be left out"),
    ):
        if keys:
            raise ValueError(
                f"the weights in {folder} do not fit config.json: {len(keys)} {what}, the first is {keys[0]!r}; copy "
                "both files from one and the same model"
            )
    return network if reader is not AutoModelForCausalLM or _looks_back(network) else network.base_model


def _needed(network: Any, keys: Sequence[str]) -> list[str]:
    """Those of the parameters without which what is read from a network would be another."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    keys = [key for key in keys if key in parameters]
    if not keys:
        return []
    ids = torch.zeros(1, 2, dtype=torch.long, device=network.device)
    with torch.enable_grad():
        body = network.get_encoder() if network.config.is_encoder_decoder else network
        out = body(input_ids=ids, attention_mask=torch.ones_like(ids))
        read = out.logits if "logits" in out else out.last_hidden_state
        wanted = [parameters[key].requires_grad_() for key in keys]
        found = torch.autograd.grad(read.float().sum(), wanted, allow_unused=True)
    return [key for key, gradient in zip(keys, found) if gradient is not None]


def _deeper(network: Any, keys: Sequence[str]) -> list[str]:
    """Those of the keys that are of layers like the network's own, but of a higher number."""
    like = {re.sub(r"\.\d+\.", ".#.", key) for key in network.state_dict()}
    ends = tuple(network.state_dict())
    return [
        key for key in keys if key not in ends and re.search(r"\.\d+\.", key) and re.sub(r"\.\d+\.", ".#.", key) in like
    ]


@torch.inference_mode()
def _looks_back(network: Any) -> bool:
    """Whether what a network makes of a token stays the same whatever follows it."""
    ids = torch.tensor([[1, 2, 3]], device=network.device)
    whole, part = (network.base_model(input_ids=each).last_hidden_state[:, :2] for each in (ids, ids[:, :2]))
    return alike(whole, part)


def alike(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Whether two outputs of a network are equal up to rounding."""
    tolerance = torch.finfo(one.dtype).eps ** 0.5 * float(two.abs().max())
    return torch.allclose(one, two, rtol=0, atol=tolerance)


def context_of(network: Any, tokenizer: Any, longest: int | None) -> int:
    """Maximum number of tokens, by configuration, learned positions, tokenizer and caller."""
    config = network.config.get_text_config()
    names = ("max_encoder_position_embeddings", "max_position_embeddings", "max_seq_len")
    limits = [longest, tokenizer.model_max_length, *(getattr(config, name, None) for name in names)]
    for name, module in network.named_modules():
        position = re.search(r"(^|\.)(position_embeddings|embed_positions|wpe)$", name)
        if position and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)  # positions count from behind the padding's
    return int(min([each for each in limits if each is not None and 0 < each < UNLIMITED], default=UNLIMITED))


def _line(error: BaseException) -> str:
    """The first lines of a library's message as one."""
    return " ".join(str(error).split())[:200] or type(error).__name__

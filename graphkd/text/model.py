"""A language model of transformers, read from a folder: what it makes of texts, and which labels it expects."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

Pool = Literal["mean", "last", "first"]

DENSE = "2_Dense"
"""Folder of an output layer beside a model, as the library of sentence encoders lays it."""


class LanguageModel:
    """An encoder or a causal language model in evaluation mode; nothing is ever fetched from the network.

    Args:
        network: of transformers.
        tokenizer: that goes with it.
        pool: what stands for a prompt: the `mean` of its tokens, the `last` or the `first` of them.
        unit: scale what stands for a prompt to length 1.
        mark: changes when the weights do.
        output: linear layer on what stands for a prompt, see `graphkd.text.align`.

    Attributes:
        causal: whether it predicts the next token, so that it can score labels.
        width: of what stands for a prompt.
        context: how many tokens it reads at most.
        multiplied: how many parameters a token is multiplied with: all but the embeddings.
        wrap: the special tokens that stand before and after every text.
    """

    def __init__(
        self, network: Any, tokenizer: Any, pool: Pool, unit: bool, mark: str, output: nn.Linear | None = None
    ) -> None:
        self.network, self.tokenizer, self.pool, self.unit, self.mark = network.eval(), tokenizer, pool, unit, mark
        self.causal = network.can_generate()
        config = network.config.get_text_config()
        self.output = output
        self.width: int = config.hidden_size if output is None else output.out_features
        longest = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
        self.context = int(min(longest, tokenizer.model_max_length))
        embeddings = network.get_input_embeddings().weight.numel()
        self.multiplied = sum(parameter.numel() for parameter in network.parameters()) - embeddings
        bare, wrapped = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
        before = next(k for k in range(len(wrapped)) if wrapped[k : k + len(bare)] == bare)
        end = [] if self.causal else wrapped[before + len(bare) :]  # what follows a causal model's text is its answer
        self.wrap: tuple[list[int], list[int]] = wrapped[:before], end
        ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.pad: int = next(each for each in ids if each is not None)

    @classmethod
    def load(
        cls,
        name: str | Path,
        device: str = "cpu",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        pool: Pool | None = None,
        layers: int | None = None,
    ) -> LanguageModel:
        """Read a model from a folder, or by the name under which it lies in the hub's cache on this machine.

        Args:
            name: folder or name.
            device: of torch.
            dtype: in which it computes.
            pool: see above; if not given, as the folder of a sentence encoder says, `last` for a causal model and else
                `mean`.
            layers: how many of its layers, from the first, make a smaller model.

        Raises:
            FileNotFoundError: it is not there; tells the command that fetches it.
            ValueError: the folder is none of transformers', or device or type do not exist.
        """
        folder = _folder(str(name))
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder} holds no model and tokenizer of transformers: {error}") from error
        causal = any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in config.architectures or ())
        if dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype is float32, bfloat16 or float16, not {dtype!r}")
        try:
            place = torch.zeros(1, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"there is no device {device!r} here: {str(error).splitlines()[0]}") from error
        reader = AutoModelForCausalLM if causal else AutoModel
        mark = weights_mark(folder)
        if layers is not None:
            if not 1 <= layers <= config.num_hidden_layers:
                raise ValueError(f"{folder} has {config.num_hidden_layers} layers; asked for the first {layers}")
            config.num_hidden_layers, mark = layers, f"{mark}-{layers}"
        network: Any = reader.from_pretrained(
            folder, config=config, local_files_only=True, dtype=getattr(torch, dtype), use_safetensors=True
        )
        network.to(place)
        told, unit, output = _sentence_encoder(folder)
        output = None if output is None else output.to(place)
        return cls(network, tokenizer, pool or told or ("last" if causal else "mean"), unit, mark, output)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, without special ones."""
        if not texts:
            return []
        return self.tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=self.context)[
            "input_ids"
        ]

    def padded(self, prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Prompts as what the network takes: padded behind, and before for a causal model, which goes on from there.

        A prompt without a token is one padding token.
        """
        longest = max(1, *map(len, prompts))
        ids = torch.full((len(prompts), longest), self.pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            count = max(1, len(prompt))
            place = slice(longest - count, longest) if self.causal else slice(0, count)
            ids[row, place] = torch.tensor(prompt or [self.pad])
            mask[row, place] = 1
        found = {"input_ids": ids, "attention_mask": mask}
        if self.causal:
            found["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
        return {name: value.to(self.device) for name, value in found.items()}

    @torch.inference_mode()
    def read(self, batch: dict[str, Tensor], answers: Sequence[Sequence[int]] = ()) -> tuple[Tensor, Tensor]:
        """What stands for each prompt, `(B, width)`, and how probable each answer is after it, `(B, C)`.

        Args:
            batch: see `padded`.
            answers: tokens of whole answers, see `answers`.
        """
        if not answers:
            hidden = self.network.base_model(**batch).last_hidden_state
            return self.pooled(hidden, batch["attention_mask"]), hidden.new_zeros(len(hidden), 0)
        out = self.network(**batch, use_cache=True, output_hidden_states=True, logits_to_keep=1)
        pooled = self.pooled(out.hidden_states[-1], batch["attention_mask"])
        first = out.logits[:, -1].float().log_softmax(1)
        return pooled, torch.stack([self._score(answer, first, out.past_key_values, batch) for answer in answers], 1)

    @torch.inference_mode()
    def write(self, batch: dict[str, Tensor], tokens: int) -> list[str]:
        """What a causal model writes after each prompt: at each step the likeliest token, until its text ends.

        Args:
            batch: see `padded`.
            tokens: at most so many.
        """
        asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
        found = self.network.generate(
            **asked, max_new_tokens=tokens, do_sample=False, num_beams=1, pad_token_id=self.pad
        )
        return self.tokenizer.batch_decode(found[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)

    def answers(self, words: Sequence[str]) -> list[list[int]]:
        """Labels as tokens, each up to the token that ends a text, so that none is the beginning of another.

        Raises:
            ValueError: the model is not causal, or two labels are the same to it.
        """
        if not self.causal:
            raise ValueError("only a causal language model answers; an encoder compares, see `names`")
        end = self.tokenizer.eos_token_id
        found = [[*ids, *([] if end is None else [end])] for ids in self.ids([f" {word.strip()}" for word in words])]
        return _different(found, words)

    @torch.inference_mode()
    def names(self, words: Sequence[str]) -> Tensor:
        """What stands for each label in words, `(C, width)`, scaled to length 1: what an encoder compares texts with.

        Raises:
            ValueError: two labels are the same to it.
        """
        start, end = self.wrap
        asked = _different([[*start, *ids, *end] for ids in self.ids([word.strip() for word in words])], words)
        return torch.nn.functional.normalize(self.read(self.padded(asked))[0], dim=1)

    def _score(self, answer: Sequence[int], first: Tensor, past: Any, batch: dict[str, Tensor]) -> Tensor:
        """The log-probability of a whole answer: of its first token, and of each other one after those before it."""
        total = first[:, answer[0]]
        if len(answer) == 1:
            return total
        mask, rows = batch["attention_mask"], len(first)
        tokens = torch.tensor(answer, device=mask.device)
        count = len(answer) - 1
        memory = past if getattr(past, "is_croppable", False) else copy.deepcopy(past)
        logits = self.network(
            input_ids=tokens[:-1].expand(rows, -1),
            attention_mask=torch.cat([mask, mask.new_ones(rows, count)], 1),
            position_ids=mask.sum(1, keepdim=True).clamp_min(1) + torch.arange(count, device=mask.device),
            past_key_values=memory,
            use_cache=True,
        ).logits
        if memory is past:
            past.crop(-count)
        told = logits.float().log_softmax(2).gather(2, tokens[1:].expand(rows, -1).unsqueeze(2))
        return total + told.sum((1, 2))

    def pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """What stands for each prompt, `(B, width)` in float32, from its last hidden layer `(B, L, d)`."""
        found = self.features(hidden, mask)
        found = found if self.output is None else self.output(found)
        return torch.nn.functional.normalize(found, dim=1) if self.unit else found

    def features(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """The tokens that stand for each prompt, before any output layer, `(B, d)` in float32."""
        rows = torch.arange(len(hidden), device=hidden.device)
        if self.pool == "mean":
            share = mask.to(hidden.dtype).unsqueeze(2)
            return ((hidden * share).sum(1) / share.sum(1)).float()
        steps = torch.arange(1, mask.shape[1] + 1, device=mask.device)
        place = (mask * steps).argmax(1) if self.pool == "last" else mask.argmax(1)
        return hidden[rows, place].float()


def _different(found: list[list[int]], words: Sequence[str]) -> list[list[int]]:
    """Labels as tokens, if no two are the same."""
    for place, ids in enumerate(found):
        if ids in found[:place]:
            first = words[found.index(ids)]
            raise ValueError(f"the labels {first!r} and {words[place]!r} are the same tokens to this model")
    return found


def weights_mark(folder: str | Path) -> str:
    """Hash of everything in a model's folder that it computes with."""
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted([*Path(folder).iterdir(), *Path(folder).glob(f"{DENSE}/*")]):
        if path.suffix in (".safetensors", ".json", ".txt", ".model"):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
    return digest.hexdigest()


def _folder(name: str) -> str:
    if Path(name).is_dir():
        return name
    try:
        return snapshot_download(name, local_files_only=True)
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise FileNotFoundError(
            f"there is no language model {name!r}: no such folder, and nothing of that name in the hub's cache. Where "
            f"there is a network, `hf download {name} --local-dir FOLDER` fetches it; then pass FOLDER"
        ) from error


def _sentence_encoder(folder: str) -> tuple[Pool | None, bool, nn.Linear | None]:
    """How a sentence encoder pools, whether it normalises, and its output layer, by the files beside the model."""
    modules, pooling = Path(folder) / "modules.json", Path(folder) / "1_Pooling" / "config.json"
    unit = modules.is_file() and any(each["type"].endswith("Normalize") for each in json.loads(modules.read_text()))
    output = _output(Path(folder) / DENSE)
    if not pooling.is_file():
        return None, unit, output
    told = json.loads(pooling.read_text())
    names: dict[str, Pool] = {"mean_tokens": "mean", "cls_token": "first", "lasttoken": "last"}
    return next((pool for name, pool in names.items() if told.get(f"pooling_mode_{name}")), None), unit, output


def _output(folder: Path) -> nn.Linear | None:
    if not folder.is_dir():
        return None
    told = json.loads((folder / "config.json").read_text())
    if not told["activation_function"].endswith("Identity"):
        raise ValueError(f"{folder} is no linear layer but has {told['activation_function']} behind it")
    found = nn.Linear(told["in_features"], told["out_features"], bias=told["bias"])
    found.load_state_dict(
        {key.removeprefix("linear."): each for key, each in load_file(folder / "model.safetensors").items()}
    )
    return found.requires_grad_(False)

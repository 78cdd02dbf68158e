"""A language model of transformers, read from a folder: embeddings of texts and probabilities of labels."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphkd.data.texts import whole_characters
from graphkd.text.folders import (
    alike,
    context_of,
    cut,
    find_folder,
    kind_named,
    read_config,
    read_network,
    read_tokenizer,
    weights_mark,
)
from graphkd.text.sentence_encoder import Pool, SentenceEncoder


class LanguageModel:
    """An encoder or a causal language model in evaluation mode; nothing is ever downloaded.

    Of an encoder-decoder the encoder is read.

    Args:
        network: of transformers.
        tokenizer: that goes with it.
        pool: what stands for a prompt: the `mean` of its tokens, the `last` or the `first` of them.
        unit: scale what stands for a prompt to length 1.
        mark: changes when the weights do.
        output: layers on what stands for a prompt, see `graphkd.text.align`.
        prompt: what stands before every prompt, see `Prompts`.
        longest: tokens that it reads at most, if fewer than network and tokenizer say.
        lower: put texts into lower case.
        folder: that it was read from.

    Attributes:
        causal: whether it predicts the next token, so that it can score labels.
        width: of what stands for a prompt.
        context: how many tokens it reads at most; `UNLIMITED` where neither network nor tokenizer says.
        multiplied: how many parameters a token is multiplied with: all but the embeddings.
        wrap: the special tokens that stand before and after every text.

    Raises:
        ValueError: the tokenizer makes no tokens, or some that the network does not have.
    """

    def __init__(
        self,
        network: Any,
        tokenizer: Any,
        pool: Pool,
        unit: bool,
        mark: str,
        output: nn.Module | None = None,
        *,
        prompt: str = "",
        longest: int | None = None,
        lower: bool = False,
        folder: Path | None = None,
    ) -> None:
        self.network, self.tokenizer, self.pool, self.unit, self.mark = network.eval(), tokenizer, pool, unit, mark
        self.prompt, self.lower, self.folder = prompt, lower, folder
        self.causal = network.can_generate()
        self.output = output
        last = [each for each in output.modules() if isinstance(each, nn.Linear)][-1] if output is not None else None
        self.width: int = network.config.get_text_config().hidden_size if last is None else last.out_features
        self.context = context_of(network, tokenizer, longest)
        embeddings = network.get_input_embeddings().weight
        self.known = len(embeddings)
        self.multiplied = sum(parameter.numel() for parameter in self.body.parameters()) - embeddings.numel()
        self.wrap = _wrap(tokenizer, self.causal)
        self._check([[*self.wrap[0], *self.wrap[1]]])
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
        """Read a model from a folder, or by its name from the hub's cache on this machine.

        A folder of sentence-transformers is read as its files say: pooling, output layers, scaling, the prompt before
        every text, greatest length and lower case.

        Args:
            name: folder or name.
            device: of torch.
            dtype: in which it computes.
            pool: see above; if not given, as the folder of a sentence encoder says, `last` for a causal model and else
                `mean`.
            layers: how many of its layers, from the first, make a smaller model.

        Raises:
            FileNotFoundError: it is not there; the message names the command that downloads it.
            ValueError: files of the network or of the tokenizer are missing, or they do not belong together; the model
                is of a kind that is not read here; or device or type do not exist.
        """
        if dtype not in ("float32", "bfloat16", "float16"):
            raise ValueError(f"dtype is float32, bfloat16 or float16, not {dtype!r}")
        if pool not in (None, "mean", "last", "first"):
            raise ValueError(f"pool is 'mean', 'last' or 'first', not {pool!r}")
        try:
            place = torch.zeros(1, device=device).device
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"there is no device {device!r} here: {str(error).splitlines()[0]}") from error
        folder = Path(find_folder(str(name)))
        encoder = SentenceEncoder.of(folder, pool)
        config, tokenizer = read_config(encoder.network), read_tokenizer(encoder.network)
        mark = weights_mark(folder)
        if layers is not None:
            cut(config, layers, encoder.network)
            mark = f"{mark}-{layers}"
        network = read_network(encoder.network, config, getattr(torch, dtype), layers is not None).to(place)
        told = pool or encoder.pool or ("last" if network.can_generate() else "mean")
        output = None if encoder.output is None else encoder.output.to(place)
        more: dict[str, Any] = dict(prompt=encoder.prompt, longest=encoder.longest, lower=encoder.lower, folder=folder)
        with kind_named(encoder.network, config):
            model = cls(network, tokenizer, told, encoder.unit, mark, output, **more)
            model._try()
        return model

    @torch.inference_mode()
    def _try(self) -> None:
        """Read two prompts: whether it is a model of texts, how wide, and whether padding leaves its vectors alone."""
        before, after = self.wrap
        room = min(4, self.context - len(before) - len(after))
        word = (self.ids(["a"])[0] or [self.pad])[:1]
        short, long = ([*before, *word * count, *after] for count in (1, max(1, room)))
        alone, both = (self.hidden(self.padded(each)) for each in ([short], [short, long]))
        place = slice(both.shape[1] - len(short), None) if self.causal else slice(0, len(short))
        if not alike(both[:1, place], alone):
            raise ValueError("padding changes its output for a text")
        self.width = self.pooled(alone, torch.ones(alone.shape[:2], device=alone.device)).shape[1]

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    @property
    def body(self) -> Any:
        """The encoder of the network, or the network without its head."""
        return self.network.get_encoder() if self.network.config.is_encoder_decoder else self.network.base_model

    def hidden(self, batch: dict[str, Tensor]) -> Tensor:
        """The last hidden layer of a batch, `(B, L, d)`."""
        return self.body(**batch).last_hidden_state

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize texts, without special tokens, truncated to the model's context.

        Raises:
            ValueError: the network does not have such a token.
        """
        if not texts:
            return []
        read = [whole_characters(text.lower() if self.lower else text) for text in texts]
        found = self.tokenizer(read, add_special_tokens=False, truncation=True, max_length=self.context)["input_ids"]
        self._check(found)
        return found

    def _check(self, found: Sequence[Sequence[int]]) -> None:
        highest = max((max(ids) for ids in found if len(ids)), default=-1)
        if highest >= self.known:
            raise ValueError(
                f"the tokenizer gives token {highest}, but the network has {self.known}: it is that of another model; "
                "copy the tokenizer files that belong to the network into its folder"
            )

    def padded(self, prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Pad prompts to a batch: on the left for a causal model, else on the right.

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
        if self.causal and "position_ids" in inspect.signature(self.network.forward).parameters:
            found["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
        return {name: value.to(self.device) for name, value in found.items()}

    @torch.inference_mode()
    def read(self, batch: dict[str, Tensor], answers: Sequence[Sequence[int]] = ()) -> tuple[Tensor, Tensor]:
        """Embed each prompt, `(B, width)`, and score each answer after it, `(B, C)`.

        Args:
            batch: see `padded`.
            answers: tokens of whole answers, see `answers`.
        """
        if not answers:
            hidden = self.hidden(batch)
            return self.pooled(hidden, batch["attention_mask"]), hidden.new_zeros(len(hidden), 0)
        out = self.network(**batch, use_cache=True, output_hidden_states=True, logits_to_keep=1)
        pooled = self.pooled(out.hidden_states[-1], batch["attention_mask"])
        first = out.logits[:, -1].float().log_softmax(1)
        past = out.get("past_key_values")
        return pooled, torch.stack([self._score(answer, first, past, batch) for answer in answers], 1)

    @torch.inference_mode()
    def write(self, batch: dict[str, Tensor], tokens: int) -> list[str]:
        """Generate a text after each prompt by greedy decoding with a causal model.

        Args:
            batch: see `padded`.
            tokens: the number of tokens that are read, at most.
        """
        asked = {name: batch[name] for name in ("input_ids", "attention_mask")}
        found = self.network.generate(
            **asked, max_new_tokens=tokens, do_sample=False, num_beams=1, pad_token_id=self.pad
        )
        return self.tokenizer.batch_decode(found[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)

    def answers(self, words: Sequence[str]) -> list[list[int]]:
        """Tokenize labels, each with the end-of-text token, so that none is a prefix of another.

        Raises:
            ValueError: the model is not causal, or two labels are the same to it.
        """
        if not self.causal:
            raise ValueError("only a causal language model has answers; use `names` for an encoder")
        end = self.tokenizer.eos_token_id
        found = [[*ids, *([] if end is None else [end])] for ids in self.ids([f" {word.strip()}" for word in words])]
        return _different(found, words)

    @torch.inference_mode()
    def names(self, words: Sequence[str]) -> Tensor:
        """Embed each label, `(C, width)`, scaled to length 1; an encoder compares texts with these.

        Raises:
            ValueError: two labels are the same to it.
        """
        start, end = self.wrap
        before = [*start, *self.ids([self.prompt])[0]]
        room = max(1, self.context - len(before) - len(end))
        names = self.ids([word.strip() for word in words])
        asked = _different([[*before, *ids[:room], *end] for ids in names], words)
        return torch.nn.functional.normalize(self.read(self.padded(asked))[0], dim=1)

    def _score(self, answer: Sequence[int], first: Tensor, past: Any, batch: dict[str, Tensor]) -> Tensor:
        """The log-probability of a whole answer: of its first token, and of each other one after those before it."""
        total = first[:, answer[0]]
        if len(answer) == 1:
            return total
        mask, rows = batch["attention_mask"], len(first)
        tokens = torch.tensor(answer, device=mask.device)
        count = len(answer) - 1
        later, longer = tokens[:-1].expand(rows, -1), torch.cat([mask, mask.new_ones(rows, count)], 1)
        if past is None:  # a model without keys and values to go on from reads its prompt again
            whole = self.network(input_ids=torch.cat([batch["input_ids"], later], 1), attention_mask=longer)
            logits = whole.logits[:, -count:]
        else:
            position = mask.sum(1, keepdim=True).clamp_min(1) + torch.arange(count, device=mask.device)
            memory = past if getattr(past, "is_croppable", False) else copy.deepcopy(past)
            logits = self.network(
                input_ids=later,
                attention_mask=longer,
                past_key_values=memory,
                use_cache=True,
                **({"position_ids": position} if "position_ids" in batch else {}),
            ).logits
            if memory is past:
                past.crop(-count)
        told = logits.float().log_softmax(2).gather(2, tokens[1:].expand(rows, -1).unsqueeze(2))
        return total + told.sum((1, 2))

    def pooled(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Pool the last hidden layer `(B, L, d)` to one vector per prompt, `(B, width)` in float32."""
        found = self.features(hidden, mask)
        found = found if self.output is None else self.output(found)
        return torch.nn.functional.normalize(found, dim=1) if self.unit else found

    def features(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Pool the last hidden layer to one vector per prompt before any output layer, `(B, d)` in float32."""
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


def _wrap(tokenizer: Any, causal: bool) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    for text in ("a", "A", "the", "0", "1", ".", "w1"):
        bare, wrapped = (tokenizer(text, add_special_tokens=special)["input_ids"] for special in (False, True))
        places = [k for k in range(len(wrapped)) if wrapped[k : k + len(bare)] == bare]
        if bare and places:
            end = [] if causal else wrapped[places[0] + len(bare) :]  # what follows a causal model's text is its answer
            return wrapped[: places[0]], end
    raise ValueError(f"the tokenizer, a {type(tokenizer).__name__}, makes no tokens of plain words")

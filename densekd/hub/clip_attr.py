"""CLIP-Attr: prompts that learn, so that an image-text model tells attributes of objects."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from densekd.hub.image_text import ImageText, learning, vectors_of
from kdlosses import nearest
from kdlosses.ground import full
from kdlosses.unit import unit
from kdlosses.whole import whole

FORMAT = "densekd prompts 1"


class Prompts(nn.Module):
    r"""Texts around a name of which the words are learned, shared by all names: $[v_1][name][v_2][parent][v_3]$.

    v are vectors in place of embeddings of words, a third of them in each place. A parent is the kind of a name, such
    as `color` of `red`; it may be missing. Learned on some names they stand around any other.

    Args:
        encoder: whose texts they are; it is no part of this module's weights.
        count: of learned vectors.
        seed: of their start, normal with a deviation of 0.02.

    Raises:
        ValueError: a count below 1, or that leaves no place for a name.

    Paper: Chen et al., "OvarNet: Towards Open-vocabulary Object Attribute Recognition", CVPR 2023; 30 vectors there.
    """

    def __init__(self, encoder: ImageText, count: int = 30, seed: int = 0) -> None:
        super().__init__()
        if not 1 <= count <= encoder.context - 3:
            raise ValueError(
                f"prompts have from 1 to {encoder.context - 3} learned vectors, as {encoder.name} reads "
                f"{encoder.context} tokens, got {count}"
            )
        self._held = (encoder,)  # a tuple: not a submodule
        self.tower_learned = False
        width = self._table.weight.shape[1]
        start = 0.02 * torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
        self.vectors = nn.Parameter(start.to(self._table.weight.device))

    @property
    def encoder(self) -> ImageText:
        """The image-text model."""
        return self._held[0]

    @property
    def _table(self) -> nn.Embedding:
        table: nn.Embedding = self.encoder.model.text_model.embeddings.token_embedding
        return table

    def forward(self, names: Mapping[str, str]) -> Tensor:
        """Embed names, of which the values are the parents, '' for none: `(n, channels)`, of length 1.

        Raises:
            ValueError: no name, or one that does not fit beside the learned vectors.
        """
        if not names:
            raise ValueError("there is no name to embed")
        rows = [self._row(name, parent) for name, parent in names.items()]
        longest = self.encoder.context if self.encoder.padded else max(len(tokens) for tokens, _ in rows)
        pad = self.encoder.tokenizer.pad_token_id or 0
        where = self.vectors.device
        tokens, learned = (torch.zeros(len(rows), longest, dtype=torch.long, device=where) for _ in range(2))
        tokens += pad
        for row, (each, places) in enumerate(rows):
            tokens[row, : len(each)] = torch.tensor(each, device=where)
            learned[row, places] = 1
        known = {"input_ids": tokens}
        if not self.encoder.padded:  # one that learned to read the padding has no mask
            lengths = torch.tensor([len(each) for each, _ in rows], device=where)
            known["attention_mask"] = (torch.arange(longest, device=where) < lengths[:, None]).long()
        words = self.vectors.repeat(len(rows), 1)

        def put(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
            return out.masked_scatter(learned[..., None].bool(), words.to(out))

        hook = self._table.register_forward_hook(put)
        try:
            return unit(vectors_of(self.encoder.model.get_text_features(**known)), 1)
        finally:
            hook.remove()

    def _row(self, name: str, parent: str) -> tuple[list[int], list[int]]:
        """Tokens of one text, and at which places learned vectors stand in place of what is there."""
        first, word, last = _tokens(self.encoder, name)
        kind = _tokens(self.encoder, parent)[1] if parent else []
        count = len(self.vectors)
        third = count // 3
        below = int(0 in last)  # a vector: models look for the end of a text by its token, or by the greatest one
        found, places = list(first), list[int]()
        for vectors, words in ((third, word), (third, kind), (count - 2 * third, [])):
            places += range(len(found), len(found) + vectors)
            found += [below] * vectors + words
        found += last
        if len(found) > self.encoder.context:
            raise ValueError(
                f"{name!r} with {count} learned vectors has {len(found)} tokens; {self.encoder.name} reads "
                f"{self.encoder.context}: take fewer vectors, or a shorter name"
            )
        return found, places

    def save(self, path: str | Path) -> None:
        """Write the learned vectors, and the text tower where it has learned, to a safetensors file.

        Raises:
            OSError: it cannot be written.
        """
        found = {"vectors": self.vectors, **(_tower(self.encoder) if self.tower_learned else {})}
        with whole(path) as draft:
            save_file(
                {name: each.detach().cpu().clone().contiguous() for name, each in found.items()},
                draft,
                metadata={"format": FORMAT},
            )

    @classmethod
    def load(cls, path: str | Path, encoder: ImageText) -> Prompts:
        """Read what `save` wrote; the text tower of the encoder is changed if that has learned.

        Raises:
            FileNotFoundError, ValueError: there is no such file, or it holds no prompts of this encoder.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"there are no learned prompts at {path}: `densekd regions --learn STEPS` writes them"
            )
        try:
            with safe_open(path, "pt") as file:
                about = (file.metadata() or {}).get("format")
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
        except SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file ({error}): write it again") from error
        tower = _tower(encoder)
        vectors = found.pop("vectors", torch.zeros(0, 0))
        fits = all(name in tower and tower[name].shape == each.shape for name, each in found.items())
        width = encoder.model.text_model.embeddings.token_embedding.weight.shape[1]
        if about != FORMAT or not fits or vectors.shape[1] != width:
            raise ValueError(f"{path} holds no prompts of {encoder.name}: write them by this encoder")
        prompts = cls(encoder, len(vectors))
        with torch.no_grad():
            prompts.vectors.copy_(vectors)
            for name, each in found.items():
                tower[name].copy_(each)
        prompts.tower_learned = bool(found)
        return prompts


class Told(NamedTuple):
    """What is known of n crops.

    Attributes:
        embeddings: of the crops by the image tower, `(n, E)`.
        attributes: `(n, A)`, 1 for one that an object has, 0 for one that it lacks, -1 where that is not known.
        classes: `(n,)`, -1 where it is not known.
        images: `(n,)`, of which image each crop is; crops of one that has a caption are taken together.
        mentioned: `(n, A)`, 1 for an attribute that the caption of a crop's image names, -1 for others.
    """

    embeddings: Tensor
    attributes: Tensor
    classes: Tensor
    images: Tensor | None = None
    mentioned: Tensor | None = None


def learn(
    prompts: Prompts,
    told: Told,
    attributes: Mapping[str, str],
    classes: Mapping[str, str],
    steps: int,
    scale: float,
    offset: float = 0.0,
    rate: float = 2e-3,
    tower_rate: float = 0.0,
    unknown: float = 0.0,
    batch: int = 64,
    seed: int = 0,
) -> list[float]:
    r"""Align attributes and classes with what is told of crops, as far as anything is told: federated, and weakly.

    $$\mathcal{L} = \mathcal{L}_{att} + \mathcal{L}_{cls} + \mathcal{L}_{cap}, \qquad
      z_{i, a} = s \cos(v_i, t_a) + o, \quad z_{i, c} = s \cos(v_i, t_c)$$

    with crops v as they are, and texts t of the prompts that learn: `attribute_loss` over what is annotated of the
    attributes, cross-entropy of the crops of which the class is known, and, for attributes that the caption of an image
    names, the cross-entropy of that crop of it which has it most. A data set may say a part of all that, about some of
    its crops.

    Args:
        prompts: learn.
        told: the crops. Those of an image with a caption may come without any annotation.
        attributes: names and their parents, in the order of `told.attributes`.
        classes: likewise, in the order of the labels.
        steps: of AdamW.
        scale: s.
        offset: o.
        rate: learning rate of the vectors.
        tower_rate: learning rate of the text tower; 0 leaves it as it is.
        unknown: see `attribute_loss`.
        batch: crops of a step; all those of the images with a caption that are among them belong to it as well.
        seed: of their order.

    Returns:
        The loss of each step.

    Raises:
        ValueError: there is nothing that is told, or it does not fit the names.

    Paper: Chen et al., "OvarNet", CVPR 2023. There the text tower learns as well, rare attributes weigh more, and
    classes are told by one binary cross-entropy each. Captions teach there by several terms, of noun phrases and
    attributes, over the largest proposals; here by one, over the best crop of an image, which is ours.
    """
    rows, count = len(told.embeddings), len(attributes)
    if told.attributes.shape != (rows, count) or told.classes.shape != (rows,):
        raise ValueError(
            f"{rows} crops and {count} attributes: expected attributes ({rows}, {count}) and classes ({rows},), got "
            f"{tuple(told.attributes.shape)} and {tuple(told.classes.shape)}"
        )
    if rows and int(told.classes.max()) >= len(classes):
        raise ValueError(f"a crop has the class {int(told.classes.max())}, there are {len(classes)} classes")
    named = told.mentioned is not None and told.images is not None and bool((told.mentioned == 1).any())
    if not ((told.attributes >= 0).any() or (told.classes >= 0).any() or named):
        raise ValueError("nothing is told of any crop: prompts have nothing to learn from")
    tower = list(_tower(prompts.encoder).values()) if tower_rate else []
    prompts.tower_learned |= bool(tower)
    groups: list[dict[str, Any]] = [{"params": [prompts.vectors], "lr": rate}]
    groups += [{"params": tower, "lr": tower_rate}] if tower else []
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0)
    draw, where = torch.Generator().manual_seed(seed), prompts.vectors.device
    losses = []
    with learning(prompts.encoder, tower):
        for _ in range(steps):
            chosen = torch.randint(rows, (min(batch, rows),), generator=draw)
            if named:
                chosen = _with_their_images(told, chosen)
            parts: list[Any] = [None if each is None else each[chosen].to(where) for each in told]
            loss = _loss(Told(*parts), prompts(attributes), prompts(classes), scale, offset, unknown)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
    return losses


def _loss(some: Told, attributes: Tensor, classes: Tensor, scale: float, offset: float, unknown: float) -> Tensor:
    found = unit(full(some.embeddings), 1)
    logits = scale * found @ attributes.T + offset
    loss = attribute_loss(logits, some.attributes, unknown)
    known = some.classes >= 0
    if known.any():
        loss = loss + F.cross_entropy(scale * found[known] @ classes.T, some.classes[known])
    if some.images is not None and some.mentioned is not None:
        loss = loss + caption_loss(logits, some.images, some.mentioned)
    return loss


def attribute_loss(logits: Tensor, truth: Tensor, unknown: float = 0.0) -> Tensor:
    r"""Binary cross-entropy over the attributes that are annotated; 0 where none is.

    $$\mathcal{L} = \mathrm{mean}_{y_{i,a} \ge 0}\, \mathrm{BCE}(\sigma(z_{i,a}), y_{i,a})
      + u\, \mathrm{mean}_{y_{i,a} < 0}\, \mathrm{BCE}(\sigma(z_{i,a}), 0)$$

    Args:
        logits: z, `(n, A)`.
        truth: y, likewise: 1, 0, or -1 where it is not known.
        unknown: u, how much an attribute that is not known counts as missing; the authors take 0.15 to 0.2.

    >>> attribute_loss(torch.zeros(1, 3), torch.tensor([[1, 0, -1]])).item()
    0.6931...
    """
    known = truth >= 0
    each = F.binary_cross_entropy_with_logits(full(logits), (truth == 1).to(full(logits)), reduction="none")
    loss = each[known].sum() / known.sum().clamp_min(1)
    if unknown:
        loss = loss + unknown * each[~known].sum() / (~known).sum().clamp_min(1)
    return loss


def caption_loss(logits: Tensor, images: Tensor, mentioned: Tensor) -> Tensor:
    r"""A caption that names an attribute is right about one crop of its image at least, the one that shows it most.

    $$\mathcal{L} = \mathrm{mean}_{(m, a)\ \text{named}}\, -\log \sigma\big(\max_{i \in m} z_{i,a}\big)$$

    Args:
        logits: z, `(n, A)`.
        images: m, of which image each crop is, `(n,)`.
        mentioned: `(n, A)`, 1 where the caption of its image names the attribute.

    >>> logits = torch.tensor([[-9.0, 0.0], [0.0, 0.0]])
    >>> caption_loss(logits, torch.tensor([4, 4]), torch.tensor([[1, -1], [1, -1]])).item()
    0.6931...
    """
    found = [
        full(logits)[images == image].amax(0)[mentioned[images == image][0] == 1]
        for image in images[(mentioned == 1).any(1)].unique()
    ]
    return F.softplus(-torch.cat(found)).mean() if found else full(logits).sum() * 0


def annotated(said: Tensor, names: Sequence[str], base: Sequence[str], novel: Sequence[str], where: str) -> Tensor:
    """What is known of base attributes, of what a data set says of those that it has; -1 for others.

    Args:
        said: `(n, A)`, 1, 0 or -1, of `names`.
        names: attributes of the data set.
        base: attributes that may have labels.
        novel: attributes that may not.
        where: begins the message of an error.

    Raises:
        ValueError: a name that is novel, or not among these.

    >>> annotated(torch.tensor([[1, 0]]), ["small", "red"], ["red", "blue", "small"], ["green"], "here").tolist()
    [[0, -1, 1]]
    """
    for name in names:
        if name not in base:
            known = f"which is not among those of the roi_head; {nearest(name, base)}"
            why = "which is novel: it has no label in training" if name in novel else known
            raise ValueError(
                f"{where} has labels of the attribute {name!r}, {why}. Give the data metainfo=dict(attributes=<base>)"
            )
    found = said.new_full((len(said), len(base)), -1)
    found[:, [list(base).index(name) for name in names]] = said
    return found


def mentioned(caption: str, names: Sequence[str]) -> Tensor:
    """Which names stand in a caption as words of it: 1 or -1, `(A,)`.

    >>> mentioned("A red car and a tall, light blue sign", ["red", "light blue", "all"]).tolist()
    [1, 1, -1]
    """
    text = " ".join(_words(caption))
    return torch.tensor([1 if f" {' '.join(_words(name))} " in f" {text} " else -1 for name in names])


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _with_their_images(told: Told, chosen: Tensor) -> Tensor:
    """Crops, and the others of their images if these have a caption that names something."""
    assert told.images is not None
    assert told.mentioned is not None
    with_caption = (told.mentioned == 1).any(1)
    images = told.images[chosen][with_caption[chosen]].unique()
    others = torch.isin(told.images, images) & with_caption
    return torch.cat([chosen, others.nonzero()[:, 0]]).unique()


def _tower(encoder: ImageText) -> dict[str, nn.Parameter]:
    """The weights of its text tower and, where it is apart, of the projection behind it."""
    return {name: weight for name, weight in encoder.model.named_parameters() if name.startswith("text_")}


def _tokens(encoder: ImageText, text: str) -> tuple[list[int], list[int], list[int]]:
    """Tokens before a text, its own, and those after it.

    Raises:
        ValueError: it has none.
    """
    own = list(encoder.tokenizer(text, add_special_tokens=False)["input_ids"])
    whole_text = list(encoder.tokenizer(text)["input_ids"])
    for start in range(len(whole_text) - len(own) + 1):
        if own and whole_text[start : start + len(own)] == own:
            return whole_text[:start], own, whole_text[start + len(own) :]
    raise ValueError(f"the tokenizer of {encoder.name} has no token for {text!r}")

"""Teach a backbone on images of which most patches are hidden: alone, beside a teacher, or by its own later self."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import kdlosses
from densekd.checkpoint import read
from densekd.hub.features import Features
from densekd.hub.masking import Masking, as_grid, patch_for, transformer_blocks
from densekd.hub.pretrain import STATE, Pretraining
from densekd.hub.rebuilding import Decoder, rebuilt
from densekd.taps.reader import Taps

KINDS = ("mae", "dmae", "g2sd", "further")
STUDENT, TEACHER = Fraction(2, 3), Fraction(17, 24)
"""Depths of the blocks that `dmae` compares: the paper's 8 of 12 and 17 of 24."""


class MaskedPretraining(Pretraining):
    r"""A backbone that learns from images of which most patches are hidden, see `Masking`.

    - `mae`: rebuild the hidden patches, by a light decoder, see `rebuilt`; there is no teacher.
    - `dmae`: the same, and the teacher's tokens of the visible patches, loss `dmae`. The teacher sees the same patches,
      and stops after the block that is compared.
    - `g2sd`: in its decoder the hidden states of the decoder of a larger masked auto-encoder, at all patches, loss
      `g2sd`: the generic stage.
    - `further`: rebuild, and match the last map of the whole image of what the student became by a training of kind
      `mae`, $\sum_c (h^s_c - h^t_c)^2$ at each position, see `further`.

    All terms have weight 1, as published. Masks are drawn by the seed and the step; those of the images held out stay.

    Tokens of `dmae` are compared patch by patch, without class tokens. In place of a class token `further` compares
    positions, which a dense task reads; both are our own.

    Args:
        student: see `Pretraining`.
        teachers: for `dmae` by name; for `further` a single one of the same shape; for `g2sd` see `guide`.
        images: see `Pretraining`.
        kind: what is learned.
        hidden: share of the patches that are hidden.
        patch: side of a hidden square in pixels; the smallest that all networks can be kept from, if not given.
        guide: for `g2sd`, the finished training of kind `mae` of the teacher, or what `autoencoder` reads of it.
        width: of the decoder.
        depth: of the decoder.
        **options: see `Pretraining`.

    Raises:
        ValueError: an option out of range, or a kind without the teacher that it needs.

    Paper: Bai et al., "Masked Autoencoders Enable Efficient Knowledge Distillers", CVPR 2023; Huang et al.,
    "Generic-to-Specific Distillation of Masked Autoencoders", CVPR 2023; Lee et al., "Self-Distillation for Further
    Pre-training of Transformers", ICLR 2023.
    """

    alone = True

    def __init__(
        self,
        student: Features,
        teachers: Mapping[str, Features],
        images: Sequence[Path],
        *,
        kind: str = "mae",
        hidden: float = 0.75,
        patch: int | None = None,
        guide: Autoencoder | None = None,
        width: int = 64,
        depth: int = 2,
        **options: Any,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {kind!r}")
        if bool(teachers) != (kind in ("dmae", "further")) or (guide is not None) != (kind == "g2sd"):
            needs = {"mae": "no teacher", "g2sd": "a masked auto-encoder as its guide", "dmae": "teachers"}
            raise ValueError(
                f"{kind} needs {needs.get(kind, 'the student after a training of kind mae as its teacher')}"
            )
        if kind == "further" and len(teachers) > 1:
            raise ValueError(f"further has one teacher, got {len(teachers)}")
        self.kind, self.guide, self.shape = kind, guide, (width, depth)
        networks = [student, *teachers.values(), *([guide.features] if guide else [])]
        self.masking = Masking(hidden, patch_for(*networks) if patch is None else patch)
        self.step = 0
        super().__init__(student, teachers, images, **options)
        self.plan |= dict(kind=kind, hidden=hidden, patch=self.masking.patch, width=width, depth=depth)
        if guide is not None:
            weights = b"".join(each.cpu().float().numpy().tobytes() for each in guide.state_dict().values())
            self.plan["guide"] = sha256(weights).hexdigest()[:16]

    def _lessons(self, loss: Any) -> nn.ModuleDict:
        height, width = self.images.size
        for each in (self.student, *self.teachers.values()):
            if each.shown((height, width)) != (height, width) or each.square:
                raise ValueError(f"{each.name} would resize images of {height} x {width}: take a size that it takes")
        masks = self._masks(1, 0)
        if self.guide is not None:
            self.guide = self.guide.to(self.device).requires_grad_(False).eval()
            if self.guide.masking.grid((height, width)) != self.masking.grid((height, width)):
                raise ValueError(
                    f"the guide hides patches of {self.guide.masking.patch} pixels, here they have {self.masking.patch}"
                )
        self.student.eval()
        probe = torch.zeros(1, 3, height, width, device=self.device)
        with torch.enable_grad():
            maps = seen(self.student, self.masking, probe, masks)[-1]
        if not maps.requires_grad:
            raise ValueError(f"nothing of the student {self.student.name} can be trained: its weights are frozen")
        lessons = nn.ModuleDict({"decoder": Decoder(maps.shape[1], self.masking.patch, *self.shape)})
        if self.kind == "g2sd" and self.guide is not None:
            lessons["guide"] = nn.Linear(self.shape[0], self.guide.decoder.embed.out_features)
        if self.kind == "dmae":
            mine = self._tokens(self.student, probe, masks, STUDENT).shape[1]
            for name, teacher in self.teachers.items():
                its = self._tokens(teacher, probe, masks, TEACHER).shape[1]
                lessons[name] = kdlosses.build("dmae", student_channels=mine, teacher_channels=its)
        return lessons.to(self.device)

    def _masks(self, images: int, step: int) -> Tensor:
        generator = torch.Generator().manual_seed(1_000_003 * self.plan["seed"] + step)
        return self.masking.draw(images, self.images.size, generator).to(self.device)

    def _tokens(self, network: Features, pixels: Tensor, masks: Tensor, depth: Fraction) -> Tensor:
        """Tokens of a block, as a map on the grid of the masks; the network runs no further."""
        tap = block_at(network, depth)
        with Taps(network.network, [tap], stop_after={tap: 1}) as taps:
            seen(network, self.masking, pixels, masks)
        return as_grid(taps[tap][0], masks)

    def _losses(self, pixels: Tensor, **context: Any) -> dict[str, Tensor]:
        pixels = pixels.to(self.device, non_blocking=True).float()
        masks = self._masks(len(pixels), self.step if self.student.training else -1 - context.get("place", 0))
        decoder: Any = self.lessons["decoder"]
        found: dict[str, Tensor] = {}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            tap = block_at(self.student, STUDENT) if self.kind == "dmae" else ""
            with Taps(self.student.network, [tap] if tap else []) as taps:
                maps = seen(self.student, self.masking, pixels, masks)
            states, values = decoder(maps[-1], masks)
            if self.kind != "g2sd":
                truth = self.student.data_preprocessor(pixels)
                found["rebuilt"] = rebuilt(values.float(), truth, masks, self.masking.patch)
            if self.guide is not None:
                with torch.no_grad():
                    target = self.guide(pixels, masks)
                said = self.lessons["guide"](states).float()
                found["guide"] = kdlosses.g2sd(said.movedim(2, 1), target.float().movedim(2, 1))
            for name, teacher in self.teachers.items():
                if self.kind == "dmae":
                    with torch.no_grad():
                        target = self._tokens(teacher, pixels, masks, TEACHER)
                    mine = as_grid(taps[tap][0], masks)
                    found[name] = self.lessons[name](mine.float(), target.float(), weight=(~masks).float())
                else:
                    with torch.no_grad():
                        target = teacher.of_pixels(pixels)[-1]
                    mine = self.student.of_pixels(pixels)[-1]
                    found[name] = target.shape[1] * kdlosses.mse(mine.float(), target.float())
        return found

    def autoencoder(self) -> Autoencoder:
        """The student with its decoder, a copy, as a guide for `g2sd`."""
        decoder: Any = self.lessons["decoder"]
        return Autoencoder(copy.deepcopy(self.student), copy.deepcopy(decoder), self.masking)


class Autoencoder(nn.Module):
    """A masked auto-encoder: pixels `(B, 3, H, W)` of 0 to 255 and masks to the hidden states of its decoder."""

    def __init__(self, features: Features, decoder: Decoder, masking: Masking) -> None:
        super().__init__()
        self.features, self.decoder, self.masking = features, decoder, masking

    def forward(self, pixels: Tensor, masks: Tensor) -> Tensor:
        return self.decoder(seen(self.features, self.masking, pixels, masks)[-1], masks)[0]


def seen(network: Features, masking: Masking, pixels: Tensor, masks: Tensor) -> list[Tensor]:
    """Maps of a network that does not see the hidden patches of pixels of 0 to 255."""
    with masking.only_visible(network.network, masks):
        return network(masking.hide(network.data_preprocessor(pixels), masks))


def autoencoder(student: Features, folder: Path) -> Autoencoder:
    """Read the masked auto-encoder that a training of kind `mae` left in a folder.

    Args:
        student: the network, as it was built for that training.
        folder: of the training.

    Raises:
        FileNotFoundError: there is no training.
        ValueError: it is of another kind, or of another network.
    """
    state = read(folder / STATE)
    plan = json.loads(state["plan"]) if isinstance(state, Mapping) and "plan" in state else {}
    if plan.get("kind") != "mae":
        raise ValueError(
            f"{folder} has no training of kind mae, whose decoder g2sd needs; its kind is {plan.get('kind')}"
        )
    weights = {name.removeprefix("decoder."): each for name, each in state["lessons"].items()}
    decoder = Decoder(weights["embed.weight"].shape[1], plan["patch"], plan["width"], plan["depth"])
    try:
        student.network.load_state_dict(state["student"])
        decoder.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{folder} is of a training of another network: {error}") from error
    return Autoencoder(student, decoder, Masking(plan["hidden"], plan["patch"]))


def further(
    student: Features,
    images: Sequence[Path],
    out: Path,
    *,
    every: int = 100,
    say: Callable[[str], None] = print,
    resume: bool = False,
    **options: Any,
) -> MaskedPretraining:
    """Self-distilled further pre-training: the student learns from what it became, from where it started.

    First a training of kind `mae`, in the folder `first` of `out`; its network is the teacher. Then the student starts
    again from its first weights, rebuilds hidden patches, and matches the teacher's hidden states.

    Args:
        student: with the weights to begin from; trained in place.
        images: see `Pretraining`.
        out: folder of both trainings.
        every: see `Pretraining.run`.
        say: likewise.
        resume: go on from what is in the folder.
        **options: see `MaskedPretraining`.

    Paper: Lee et al., "Self-Distillation for Further Pre-training of Transformers", ICLR 2023.
    """
    later = copy.deepcopy(student)
    stages: list[tuple[Features, str, Path]] = [(later, "mae", out / "first"), (student, "further", out)]
    for network, kind, folder in stages:
        teachers = {"later": later} if kind == "further" else {}
        training = MaskedPretraining(network, teachers, images, kind=kind, **options)
        if resume and (folder / STATE).exists():
            training.resume(folder / STATE)
        training.run(folder, every, say)
    return training


def block_at(network: Features, depth: Fraction) -> str:
    """The path, in `network.network`, of the block that begins at a fraction of the depth.

    Raises:
        ValueError: it is no transformer.
    """
    found = transformer_blocks(network.network)
    if not found:
        raise ValueError(f"{network.name} has no transformer blocks, which dmae compares: take another kind")
    return found[min(int(depth * len(found)), len(found) - 1)]

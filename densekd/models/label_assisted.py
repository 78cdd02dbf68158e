"""A light segmenter as a strong teacher: the label, with noise, is an extra input channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmseg.models import EncoderDecoder
from torch import Tensor, nn

from densekd.context import classes_of
from densekd.registry import MODELS
from densekd.taps.defaults import tap
from densekd.taps.reader import Taps
from kdlosses import cwd


@MODELS.register_module()
class LabelAssistedEncoderDecoder(EncoderDecoder):
    r"""mmseg's `EncoderDecoder` with an extra input channel for the label.

    With a value $v_k$ for each class, noise $\epsilon_i$ and a scale a, the channel is, at pixel i of class $y_i$,

    $$ x_i = a \, (v_{y_i} + \epsilon_i), \qquad \epsilon_i \sim N(0, \sigma^2), $$

    and 0 where the label does not count. In training (`mode='loss'`) each image has values of its own, drawn from
    N(0, 1), so that the channel shows where a class ends but not which class it is: that must come from the image. Two
    such inputs with values and noise of their own go through the network, and on its logits $o_1, o_2$

    $$ L = L_1 + L_2 + \lambda \, [\mathrm{CWD}(o_1, o_2) + \mathrm{CWD}(o_2, o_1)], \qquad \tau = 4, $$

    each $L_n$ with all losses of the heads. As a teacher in a `Distiller` (`mode='tensor'` with data samples that have
    labels) it gets the label by fixed values. Everywhere else, as in prediction, the channel is 0: validation never
    uses the label, even if the data samples hold it, and evaluates a plain network.

    A checkpoint of the plain network fits: its stem is widened by a channel of weights 0. With `init_weights` those are
    0, too, so that training starts from a network that ignores the label.

    Args:
        backbone: config; its stem has one channel more than images have: `in_channels=4`.
        values: $v_k$ as a teacher, one for each class; if not given, steps of 0.1 with mean 0.
        noise: $\sigma$ in training.
        teaching_noise: $\sigma$ as a teacher.
        scale: a.
        consistency: $\lambda$.
        tau: temperature of the consistency.
        **kwargs: of `EncoderDecoder`: `decode_head`, `auxiliary_head`, ...

    Raises:
        ValueError: the stem has 3 channels, or the number of values is not that of the classes.

    Paper: Qiu et al., "Make a Strong Teacher with Label Assistance: A Novel Knowledge Distillation Approach for
    Semantic Segmentation", ECCV 2024. Noise, scale, values and $\lambda = 5$ are those of the authors' code, whose
    auxiliary heads have weight 0.4. For the 21 classes of Pascal VOC it has $v_k = (k - 11) / 10$; the middle of any
    other number of classes is our own form, and so are the weights that start from 0. Each half of the consistency
    trains its first argument here; we do not know whether theirs stops the gradient of the second.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        *args: Any,
        values: Sequence[float] | None = None,
        noise: float = 0.03,
        teaching_noise: float = 0.02,
        scale: float = 100.0,
        consistency: float = 5.0,
        tau: float = 4.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone, *args, **kwargs)
        self.noise, self.teaching_noise, self.scale = noise, teaching_noise, scale
        self.consistency, self.tau = consistency, tau
        classes, ignored = classes_of(self)
        assert classes is not None
        self.ignored = 255 if ignored is None else ignored
        if values is not None and len(values) != classes:
            raise ValueError(f"values={list(values)!r} must have one number for each of the {classes} classes")
        table = (torch.arange(classes) - (classes - 1) / 2) / 10 if values is None else torch.tensor(values)
        self.register_buffer("values", table.float(), persistent=False)
        stem = self.stem
        if stem.in_channels != 4:
            raise ValueError(
                f"the stem of {type(self.backbone).__name__} has {stem.in_channels} input channels, but needs 4: "
                "those of the image and one for the label. Set backbone=dict(in_channels=4)"
            )
        stem._register_load_state_dict_pre_hook(_widen, with_module=True)

    @property
    def stem(self) -> nn.Conv2d:
        """The first convolution; its last input channel is that of the label."""
        return next(module for module in self.backbone.modules() if isinstance(module, nn.Conv2d))

    def init_weights(self) -> None:
        """Initialise as the configs say, and the weights of the label's channel with 0."""
        super().init_weights()
        with torch.no_grad():
            self.stem.weight[:, -1:] = 0

    def with_label(self, inputs: Tensor, data_samples: Sequence[Any], teaching: bool) -> Tensor:
        """Append the channel of the label: with the fixed values of a teacher, else with values drawn anew."""
        labels = torch.stack([sample.gt_sem_seg.data[0] for sample in data_samples]).to(inputs.device)
        valid = (labels >= 0) & (labels != self.ignored)
        values = self.values.expand(len(labels), -1)
        values, noise = (values, self.teaching_noise) if teaching else (torch.randn_like(values), self.noise)
        told = values.gather(1, labels.where(valid, 0).flatten(1)).view(labels.shape)
        told = self.scale * (told + noise * torch.randn_like(told)).where(valid, 0)
        return torch.cat([inputs, told.to(inputs.dtype).unsqueeze(1)], dim=1)

    def extract_feat(self, inputs: Tensor) -> Any:
        """Extract features; an image without the channel of the label gets one of 0."""
        if inputs.shape[1] < self.stem.in_channels:
            inputs = torch.cat([inputs, torch.zeros_like(inputs[:, :1])], dim=1)
        return super().extract_feat(inputs)

    def loss(self, inputs: Tensor, data_samples: Any) -> dict[str, Tensor]:
        """Losses of the heads on two encodings of the label, and the consistency of their logits."""
        (first, one), (second, other) = (self._view(inputs, data_samples) for _ in range(2))
        losses = {**first, **{f"second.{key}": value for key, value in second.items()}}
        both = cwd(one, other, tau=self.tau) + cwd(other, one, tau=self.tau)
        return {**losses, "loss_consistency": self.consistency * both}

    def _view(self, inputs: Tensor, data_samples: Any) -> tuple[dict[str, Tensor], Tensor]:
        logits = tap(self, "logits")
        with Taps(self, [logits]) as taps:
            losses = super().loss(self.with_label(inputs, data_samples, teaching=False), data_samples)
        return losses, taps[logits][0]

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Tensor:
        if data_samples and all("gt_sem_seg" in sample for sample in data_samples):
            inputs = self.with_label(inputs, data_samples, teaching=True)
        return super()._forward(inputs, data_samples)


def _widen(stem: nn.Conv2d, state: dict[str, Tensor], prefix: str, *rest: Any) -> None:
    """Let weights of a plain stem fit: those of the label's channel are 0."""
    weight = state.get(f"{prefix}weight")
    if weight is not None and weight.shape[1] == stem.weight.shape[1] - 1:
        state[f"{prefix}weight"] = torch.cat([weight, torch.zeros_like(weight[:, :1])], dim=1)

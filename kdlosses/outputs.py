"""Output layers that stay in a student and hold more than class logits: a second head, subclasses, the teacher's."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.discover import find
from kdlosses.experts import mixture
from kdlosses.ground import Ground
from kdlosses.options import check_known, typed

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


def mix_heads(hard: Tensor, soft: Tensor, share: float | Tensor = 0.5, tau: float | Tensor = 0.5) -> Tensor:
    r"""Mixed predictions of two heads, as log-probabilities; of one sigmoid as its logit.

    $$ \log \big( a \, \mathrm{softmax}(z) + (1 - a) \, \mathrm{softmax}(z' / b) \big) $$

    Args:
        hard: z, logits `(N, C, *)` of the head that learns from the labels.
        soft: $z'$, logits `(N, C, *)` of the head that learns from the teacher.
        share: a, 0 to 1 (paper: 0.5); 1 leaves `soft` out.
        tau: b, the temperature of `soft` (paper: 0.5).

    Paper: Kang et al., "Simple Semi-supervised Knowledge Distillation from Vision-Language Models via Dual-Head
    Optimization", 2025. There the second head is a cosine, times 100.

    >>> mix_heads(torch.tensor([[50.0, -50.0]]), torch.tensor([[0.0, 0.0]])).exp()
    tensor([[0.7500, 0.2500]])
    """
    share = torch.as_tensor(share, dtype=hard.dtype, device=hard.device)
    both = torch.stack([hard, soft / tau], 1)
    if hard.shape[1] == 1:  # of a sigmoid: two classes, 0 and z
        mixed = mixture(torch.cat([torch.zeros_like(both), both], 2), torch.stack([share, 1 - share]))
        return mixed[:, 1:] - mixed[:, :1]
    return mixture(both, torch.stack([share, 1 - share]))


class Output(nn.Module):
    """An output layer of more than class logits.

    Attributes:
        layer: the layer inside that makes logits, or the first of two.
        classes: number of class logits.
    """

    layer: Layer
    classes: int


class TwoHeads(Output):
    r"""Two last layers on one feature: in training the logits of the first, in evaluation `mix_heads` of both.

    Labels train the first, `layer`, and a teacher trains `second`, which is a layer to be tapped. Both stay in the
    network.

    Args:
        layer: the last layer that there is, which becomes the first.
        share: a, the share of the first head in the prediction.
        tau: b, the temperature of the second head in the prediction.

    Raises:
        ValueError: `share` is no share, or `tau` is not positive.

    Paper: see `mix_heads`.

    >>> output = TwoHeads(nn.Linear(4, 3))
    >>> output.train()(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    >>> torch.testing.assert_close(output.eval()(torch.zeros(2, 4)).exp().sum(1), torch.ones(2))
    """

    share: Tensor
    tau: Tensor

    def __init__(self, layer: Layer, share: float = 0.5, tau: float = 0.5) -> None:
        super().__init__()
        if not 0 <= share <= 1 or not tau > 0:
            raise ValueError(f"two_heads: share is 0 to 1 and the temperature tau positive, got {share} and {tau}")
        self.layer, self.second = layer, like(layer)
        self.axis, self.classes = _axis(layer), len(layer.weight)
        self.register_buffer("share", torch.tensor(float(share)))
        self.register_buffer("tau", torch.tensor(float(tau)))

    def forward(self, features: Tensor) -> Tensor:
        first, second = self.layer(features), self.second(features)
        if self.training:
            return first
        mixed = mix_heads(first.movedim(self.axis, 1), second.movedim(self.axis, 1), self.share, self.tau)
        return mixed.movedim(1, self.axis)


class Subclasses(Output):
    r"""S logits for each class, `layer`; the class logits are $\log \sum_k \exp z_{ck}$, in training and in evaluation.

    The softmax of the class logits is the sum of the softmax of the subclasses over those of a class.

    Args:
        layer: the last layer that there is, of C classes; another of S C takes its place.
        count: S.

    Raises:
        ValueError: there is but one class, or no subclass.

    Paper: Loo et al., "Linear Projections of Teacher Embeddings for Few-Class Distillation", 2024; see
    `kdlosses.LELP`.

    >>> Subclasses(nn.Conv2d(4, 3, 1), count=5)(torch.zeros(2, 4, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, layer: Layer, count: int = 4) -> None:
        super().__init__()
        self.classes = len(layer.weight)
        if count < 1:
            raise ValueError(f"subclasses: count must be at least 1, got {count}")
        if self.classes < 2:
            raise ValueError("subclasses: one sigmoid has no subclasses; give the last layer two classes")
        self.layer = like(layer, self.classes * count)
        self.count, self.axis = count, _axis(layer)

    def forward(self, features: Tensor) -> Tensor:
        each = self.layer(features).movedim(self.axis, -1).unflatten(-1, (-1, self.count))
        return each.logsumexp(-1).movedim(-1, self.axis)


class SharedClassifier(Output):
    r"""A learned map to the width of a teacher's last features, `layer`, then a classifier, which may be the teacher's.

    `share` puts the teacher's own last layer there, $z = W_t A f + b_t$, and freezes it: what the student learns is to
    have the teacher's features. Until then the classifier learns like any other layer.

    Args:
        layer: the last layer that there is; another one, to `wide` channels, takes its place.
        wide: width of the teacher's last features.

    Raises:
        ValueError: `wide` is no width.

    Paper: Tang et al., "Distribution Shift Matters for Knowledge Distillation with Webly Collected Images", ICCV 2023.

    >>> output, teacher = SharedClassifier(nn.Linear(4, 3), wide=8), nn.Linear(8, 3)
    >>> output.share(teacher.weight, teacher.bias)
    >>> features = torch.randn(2, 4)
    >>> torch.equal(output(features), teacher(output.layer(features)))
    True
    """

    def __init__(self, layer: Layer, wide: int = 64) -> None:
        super().__init__()
        if wide < 1:
            raise ValueError(f"shared: wide must be at least 1, got {wide}")
        self.layer, self.classes = like(layer, wide), len(layer.weight)
        self.classifier: Any = (
            nn.Linear(wide, self.classes) if isinstance(layer, nn.Linear) else type(layer)(wide, self.classes, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(self.layer(features))

    @torch.no_grad()
    def share(self, weight: Tensor, bias: Tensor | None) -> None:
        """Take a classifier `(C, d)`, or `(C, d, 1, 1)`, without a bias if there is none, and freeze it.

        Raises:
            ValueError: it is of another shape; says which.
        """
        own = self.classifier
        if weight.shape[:2] != own.weight.shape[:2] or weight.numel() != own.weight.numel():
            raise ValueError(
                f"shared: the teacher's last layer has weights {tuple(weight.shape)}, the student's place for it "
                f"{tuple(own.weight.shape)}: the classes must be the same, the output be made with "
                f"wide={weight.shape[1]}, and a convolution be 1x1"
            )
        own.weight.copy_(weight.reshape(own.weight.shape))
        own.bias.copy_(torch.zeros_like(own.bias) if bias is None else bias)
        own.requires_grad_(False)


OUTPUTS: dict[str, type[Output]] = {"two_heads": TwoHeads, "subclasses": Subclasses, "shared": SharedClassifier}
"""The output layers by name; each is built of the last layer that it replaces."""


def with_output(model: nn.Module, path: str, output: str | Mapping[str, Any]) -> nn.Module:
    """Replace the last layer of a model, in place, and return the model.

    Args:
        model: any network, a student before its optimiser is built.
        path: of its last layer.
        output: a name in `OUTPUTS`, or a dict with the name as `type` and options.

    Raises:
        KeyError: no such output; the message names the nearest.
        AttributeError, TypeError, ValueError: no such layer, or none that it can replace; an option that it does not
            have, or out of range.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 5, 1))
    >>> [name for name, _ in with_output(net, "1", "two_heads").named_parameters()][2:]
    ['1.layer.weight', '1.layer.bias', '1.second.weight', '1.second.bias']
    """
    options = dict(output) if isinstance(output, Mapping) else {"type": output}
    name = options.pop("type", None)
    make: Any = find("output", name, OUTPUTS)
    check_known(f"output {name!r}", options, [*inspect.signature(make).parameters][1:])
    layer = model.get_submodule(path)
    if not isinstance(layer, Layer):
        raise ValueError(
            f"output {name!r} replaces a last layer, linear or a convolution; {path!r} is a {type(layer).__name__}"
        )
    parent, _, own = path.rpartition(".")
    made = make(layer, **typed(f"output {name!r}: ", make, options, Ground(most={"share": 1})))
    setattr(model.get_submodule(parent), own, made.to(layer.weight).train(layer.training))
    return model


def output_at(model: nn.Module, path: str, name: str, who: str) -> Output:
    """The output layer of a name in `OUTPUTS` at a path.

    Raises:
        ValueError: another layer is there; says what `who` needs.
    """
    found = model.get_submodule(path)
    if not isinstance(found, OUTPUTS[name]):
        raise ValueError(
            f"{who} needs a student whose last layer {path!r} is {name!r}, it is a {type(found).__name__}: in a config "
            f"student=dict(type='densekd.WithOutput', of=<model>, output={name!r}); of a live model "
            f"kdlosses.outputs.with_output(model, {path!r}, {name!r})"
        )
    return found


def like(layer: Layer, outputs: int | None = None) -> Layer:
    """A new layer as the given one, with another number of outputs, if one is given."""
    made, outputs = copy.deepcopy(layer), outputs or len(layer.weight)
    made.weight = nn.Parameter(layer.weight.new_empty(outputs, *layer.weight.shape[1:]))
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.new_empty(outputs))
    setattr(made, "out_features" if isinstance(made, nn.Linear) else "out_channels", outputs)
    made.reset_parameters()
    return made


def _axis(layer: Layer) -> int:
    return -1 if isinstance(layer, nn.Linear) else 1

"""Learn receptive tokens or frequency prompts with a teacher's task loss: what MasKD and FreeKD do beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from densekd.losses.frequency_prompts import FrequencyPrompts
from densekd.losses.receptive_tokens import ReceptiveTokens, overlap
from densekd.mmlab.probe import blank_size, probe
from densekd.taps.reader import Tap, find

Learned = TypeVar("Learned", ReceptiveTokens, FrequencyPrompts)


def learn_tokens(
    model: nn.Module,
    batches: Iterable[Any],
    taps: Sequence[str],
    tokens: int = 6,
    weigh: bool = True,
    lr: float = 0.1,
    iterations: int = 2000,
) -> dict[str, ReceptiveTokens]:
    r"""Learn masks of features that keep a trained model's task loss low and overlap little.

    At each tap the feature f is replaced by $\sum_t p_t M_t f$, and tokens minimise the model's own losses plus the
    mean dice coefficient of their masks. The model itself, with its batch statistics, does not change.

    Args:
        model: a trained segmenter or detector.
        batches: what a training data loader yields; it is iterated anew as often as needed.
        taps: where, such as `neck:0` or `decode_head.bottleneck`; each yields one map and gets tokens of its own.
        tokens: T.
        weigh: learn shares $p_t$, which depend on the image; otherwise each is 1.
        lr: of SGD with momentum 0.9; it falls to 0 as the power 0.9 of what is left.
        iterations: steps.

    Raises:
        FloatingPointError: tokens are no longer finite.

    Returns:
        for each tap its tokens; `tokens.save(path)` writes a file for the option `learned` of the loss `maskd`.

    Paper: Huang et al., "Masked Distillation with Receptive Tokens", ICLR 2023: 6 tokens, 2,000 iterations. Optimiser
    and rate are those of the authors' code for segmenters, which takes 10,000 iterations and 8 tokens of equal share.
    """
    return _learn(model, batches, taps, lambda width: ReceptiveTokens(width, tokens, weigh), lr, iterations)


def learn_prompts(
    model: nn.Module,
    batches: Iterable[Any],
    taps: Sequence[str],
    tokens: int = 6,
    levels: int = 3,
    lr: float = 0.1,
    iterations: int = 2000,
) -> dict[str, FrequencyPrompts]:
    r"""Learn masks of the bands of a wavelet transform that keep a trained model's task loss low and overlap little.

    At each tap the feature is replaced by the inverse transform of its bands, each times the sum of its masks, and
    prompts minimise the model's own losses plus the mean dice coefficient of their masks, summed over the bands. The
    model itself, with its batch statistics, does not change.

    Args:
        model: a trained segmenter or detector.
        batches: what a training data loader yields; it is iterated anew as often as needed.
        taps: where, such as `neck:0`; each yields one map and gets prompts of its own.
        tokens: prompts of a band.
        levels: of the transform.
        lr: of SGD with momentum 0.9; it falls to 0 as the power 0.9 of what is left.
        iterations: steps.

    Raises:
        FloatingPointError: prompts are no longer finite.

    Returns:
        for each tap its prompts; `prompts.save(path)` writes a file for the option `learned` of the loss `freekd`.

    Paper: Zhang et al., "FreeKD: Knowledge Distillation via Semantic Frequency Prompt", CVPR 2024: 6 prompts, 3 levels.
    The authors' code has no config of this step: optimiser, rate and iterations are those of `learn_tokens`.
    """
    return _learn(model, batches, taps, lambda width: FrequencyPrompts(width, tokens, levels), lr, iterations)


def _learn(
    model: nn.Module,
    batches: Iterable[Any],
    taps: Sequence[str],
    make: Callable[[int], Learned],
    lr: float,
    iterations: int,
) -> dict[str, Learned]:
    seen = probe(model, taps, blank_size([model], [taps]))
    for tap, maps in seen.items():
        if len(maps) != 1 or maps[0].ndim != 4:
            raise ValueError(f"tap {tap!r} yields {[tuple(each.shape) for each in maps]}, tokens need one map")
    device = next(model.parameters()).device
    found = {tap: make(maps[0].shape[1]).to(device) for tap, maps in seen.items()}
    asked = {name: p.requires_grad for name, p in model.named_parameters()}
    modes = {module: module.training for module in model.modules()}
    overlaps: list[Tensor] = []
    hooks = [_attend(model, tap, own, overlaps) for tap, own in found.items()]
    try:
        model.requires_grad_(False).eval()
        optimizer = torch.optim.SGD([p for own in found.values() for p in own.parameters()], lr, momentum=0.9)
        schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, iterations, power=0.9)
        for batch in _endless(batches, iterations):
            overlaps.clear()
            losses = model(**model.data_preprocessor(batch, training=True), mode="loss")  # type: ignore[operator]
            total, _ = model.parse_losses(losses)  # type: ignore[operator]
            optimizer.zero_grad()
            (total + torch.stack(overlaps).sum()).backward()
            optimizer.step()
            schedule.step()
        if not all(p.isfinite().all() for own in found.values() for p in own.parameters()):
            raise FloatingPointError(f"what was learned at {', '.join(found)} is not finite: lower lr")
    finally:
        for hook in hooks:
            hook.remove()
        for name, p in model.named_parameters():
            p.requires_grad_(asked[name])
        for module, mode in modes.items():
            module.training = mode
    return found


def _attend(model: nn.Module, spec: str, tokens: Learned, overlaps: list[Tensor]) -> Any:
    """Put the masks where the tap is."""
    tap = Tap.parse(spec)

    def masked(value: Any) -> Any:
        if tap.item is not None:
            items = list(value)
            items[tap.item] = masked_map(items[tap.item])
            return type(value)(items)
        return masked_map(value)

    def masked_map(feature: Tensor) -> Tensor:
        if isinstance(tokens, FrequencyPrompts):
            feature, alike = tokens.attend(feature)
        else:
            feature, masks = tokens.attend(feature)
            alike = overlap(masks) / max(1, len(tokens.tokens) * (len(tokens.tokens) - 1))
        overlaps.append(alike.mean())
        return feature

    module = find(model, tap.path)
    if tap.of_input:
        return module.register_forward_pre_hook(lambda module, args: (masked(args[0]), *args[1:]))
    return module.register_forward_hook(lambda module, args, output: masked(output))


def _endless(batches: Iterable[Any], count: int) -> Iterable[Any]:
    taken = 0
    while taken < count:
        before = taken
        for batch in batches:
            if taken == count:
                return
            taken += 1
            yield batch
        if taken == before:
            raise ValueError("the data loader yields no batch to learn tokens from")

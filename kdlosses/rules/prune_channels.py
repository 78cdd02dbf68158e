"""Networks without some of their channels, which are really gone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdlosses.options import nearest
from kdlosses.rules.coupled_channels import Coupled, Forward, coupled_channels
from kdlosses.taps import at_rest, tensors_in

Widths = dict[str, list[int]]
"""By path of a layer its input and output channels; equal for a batch norm and a depthwise convolution."""

TOLERANCE = 1e-4  # between the pruned network and the masked one, relative where an output is greater than 1


class PrunedChannels(NamedTuple):
    """A network without some of its channels.

    Attributes:
        model: a copy of the network with smaller layers, under the same names.
        widths: of the layers that are smaller, what `set_widths` takes.
        groups: by group of scales how many there are, and how many of them are left.
        apart: greatest difference between the outputs of `model` and of the network with scale and shift of the removed
            channels at 0, relative where an output is greater than 1, before constants are handed on.
    """

    model: nn.Module
    widths: Widths
    groups: dict[str, tuple[int, int]]
    apart: float


def prune_channels(
    model: nn.Module,
    forward: Forward,
    keep: float | Mapping[str, float] = 0.5,
    least: int = 8,
    constants: bool = True,
) -> PrunedChannels:
    r"""Remove the channels of a trained network whose batch norms scale them least, with one threshold a group.

    $$ \mathrm{keep}(c) = \bigvee_{b \ni c} \big[ |\gamma_{bc}| > t_{g(b)} \big], \qquad
       t_g = \text{the } \lfloor n_g (1 - k_g) \rfloor \text{-th smallest } |\gamma| \text{ of the group } g $$

    over all batch norms b that scale a channel c: channels that are coupled, see `coupled_channels`, stay where one of
    them does. A group is a stage of the backbone or a part of the network, see `group_of`, unless `keep` names others.
    Only channels that a batch norm scales right after the layer that makes them can go; where others are coupled to
    them, as in a feature pyramid without norms, they stay.

    A channel of scale 0 is constant. Its constant is added to the bias of the layer that reads it, or taken from the
    mean of the batch norm after that, so that a network with scales of 0 is unchanged, but where a padded convolution
    reads a constant other than 0 near the edge of a map, and where a layer has neither, or a batch norm that reads
    other layers, too.

    Args:
        model: the trained network, which is not changed.
        forward: runs it such that every layer is reached, such as `lambda net: net(images)`; in evaluation mode. It is
            called with copies in double precision where these run.
        keep: k, a share of the scales to keep for all groups; or by the first names of paths, which then are groups:
            `{"backbone.layer4": 0.2, "neck": 0.5, "": 0.6}`, where the longest fits and `""` is every other group;
            without it these keep all.
        least: channels that each layer keeps, or all that it has; and at least 1 % of them.
        constants: whether to hand constants on.

    Raises:
        ValueError: a share out of range, a name that no scale has, no channel that could go, a layer that `forward`
            does not reach, no outputs or some that are not finite, or a network whose couplings are not those that were
            found.

    Paper: Chu et al., "Group channel pruning and spatial attention distilling for object detection", Applied
    Intelligence 2022: thresholds by group, and shortcuts that share one mask. Groups by name, and that constants are
    handed on, are ours.

    >>> net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    >>> net[1].weight.data = torch.tensor([1.0, 0.0, 0.5, 0.0])
    >>> found = prune_channels(net, lambda net: net(torch.ones(1, 3, 8, 8)), keep=0.5, least=1)
    >>> found.widths
    {'0': [3, 2], '1': [2, 2], '3': [2, 2]}
    """
    coupled = coupled_channels(model, forward)
    shares = keep if isinstance(keep, Mapping) else {"": keep}
    kept, groups = _chosen(model, coupled, shares, least)
    cuts = {}
    for path, layer in coupled.layers.items():
        ins, outs = ([n for n, c in enumerate(side) if coupled.root(c) in kept] for side in (layer.reads, layer.writes))
        if len(ins) < len(layer.reads) or len(outs) < len(layer.writes):
            cuts[path] = ins, outs
    masked, pruned = copy.deepcopy(model), copy.deepcopy(model)
    for path, (ins, outs) in cuts.items():
        _cut(pruned.get_submodule(path), ins, outs)
        norm: Any = masked.get_submodule(path)
        if isinstance(norm, _BatchNorm):
            gone = _others(outs, norm.num_features)
            for each in (norm.weight, norm.bias):
                each.data[gone] = 0
    apart = _apart(masked, pruned, forward)
    if constants and cuts:
        _hand_constants_on(model, pruned, coupled, cuts, forward)
    widths = {path: [len(ins), len(outs)] for path, (ins, outs) in cuts.items()}
    return PrunedChannels(pruned, widths, groups, apart)


def group_of(path: str) -> str:
    """The group of a batch norm: a stage of the backbone, or the first name of its path.

    >>> group_of("backbone.layer1.0.bn1"), group_of("backbone.bn1"), group_of("neck.lateral_convs.0.bn")
    ('backbone.layer1', 'backbone', 'neck')
    """
    names = path.split(".")
    return ".".join(names[:2]) if names[0] == "backbone" and len(names) > 2 else names[0]


def set_widths(model: nn.Module, widths: Mapping[str, Sequence[int]]) -> nn.Module:
    """Make layers as small as those of a pruned network, for its weights to be loaded; they keep their first channels.

    Args:
        model: the network as it was before it was pruned; it is changed, and returned.
        widths: of `PrunedChannels`.

    Raises:
        ValueError: there is no such layer, it is of another kind, or it has fewer channels.

    >>> set_widths(nn.Sequential(nn.Conv2d(3, 8, 1)), {"0": [3, 2]})
    Sequential(
      (0): Conv2d(3, 2, kernel_size=(1, 1), stride=(1, 1))
    )
    """
    modules = dict(model.named_modules())
    for path, given in widths.items():
        if path not in modules:
            raise ValueError(f"widths: {type(model).__name__} has no layer {path!r}; {nearest(path, modules)}")
        module = modules[path]
        if not isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear | _BatchNorm):
            raise ValueError(f"widths: {path!r} is a {type(module).__name__}: it has no channels that can be set")
        if getattr(module, "groups", 1) not in (1, _sizes(module)[0]):
            raise ValueError(f"widths: {path!r} is a grouped convolution, whose channels cannot be set")
        has = _sizes(module)
        whole = isinstance(given, Sequence) and len(given) == 2 and all(type(each) is int for each in given)
        if not whole or not all(1 <= each <= most for each, most in zip(given, has)):
            raise ValueError(
                f"widths: {path!r} has {has[0]} channels in and {has[1]} out, and takes a list of two numbers from 1 "
                f"to these, got {given!r}"
            )
        if _passes(module) and given[0] != given[1]:
            raise ValueError(f"widths: {path!r} hands channels on: as many go out as in, got {given!r}")
        _cut(module, list(range(given[0])), list(range(given[1])))
    return model


def _chosen(
    model: nn.Module, coupled: Coupled, shares: Mapping[str, float], least: int
) -> tuple[set[int], dict[str, tuple[int, int]]]:
    """Roots of the channels that stay, and by group how many scales there are and how many are left."""
    if not shares:
        raise ValueError("prune_channels: keep names no group, so that nothing would go")
    for name, share in shares.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
            where = f" of {name!r}" if name else ""
            raise ValueError(
                f"prune_channels: keep{where} is a share of the scales, above 0 and at most 1, got {share!r}"
            )
    if isinstance(least, bool) or not isinstance(least, int) or least < 1:
        raise ValueError(f"prune_channels: least is a number of channels from 1, got {least!r}")
    makers = [layer for layer in coupled.layers.values() if layer.makes and layer.norms]
    makers = [layer for layer in makers if not all(map(coupled.fixed, layer.writes))]
    if not makers:
        raise ValueError(
            f"prune_channels: {type(model).__name__} has no channel that could go: none is scaled by a batch norm "
            "right after the layer that makes it, or what reads them is not followed"
        )
    paths = list(dict.fromkeys(norm for layer in makers for norm in layer.norms))
    scales = {path: coupled.layers[path].module.weight.detach().abs().double().cpu() for path in paths}  # type: ignore
    for path, scale in scales.items():
        if not scale.isfinite().all():
            raise ValueError(f"prune_channels: the scales of {path!r} are not all finite: the training diverged")
    of = {path: _named(path, shares) for path in paths}
    names = list(dict.fromkeys(of.values()))
    for name in shares:
        if name and name not in names:
            raise ValueError(
                f"prune_channels: no scale that could go is in the group {name!r}, or longer names have them all; "
                f"groups: {', '.join(dict.fromkeys(map(group_of, paths)))}"
            )
    score: dict[int, float] = {}  # of what is coupled: its greatest scale
    kept = {coupled.root(c) for layer in coupled.layers.values() for c in layer.reads if coupled.fixed(c)}
    kept |= {coupled.root(c) for layer in coupled.layers.values() for c in layer.writes if coupled.fixed(c)}
    for name in names:
        own = [path for path in paths if of[path] == name]
        share = shares.get(name, shares.get("", 1.0))
        channels = [coupled.root(c) for path in own for c in coupled.layers[path].writes]
        values = torch.cat([scales[path] for path in own])
        gone = int(len(values) * (1 - share) + 1e-9)
        order = values.argsort(stable=True).tolist()
        kept |= {channels[n] for n in order[gone:]}
        for channel, value in zip(channels, values.tolist()):
            score[channel] = max(score.get(channel, 0.0), value)
    for layer in makers:
        made = list(dict.fromkeys(map(coupled.root, layer.writes)))
        enough = min(len(made), max(least, -(-len(made) // 100)))
        missing = enough - sum(each in kept for each in made)
        rest = sorted((each for each in made if each not in kept), key=lambda each: -score[each])
        kept |= set(rest[: max(0, missing)])
    groups = {}
    for name in names:
        channels = [coupled.root(c) for path in paths if of[path] == name for c in coupled.layers[path].writes]
        groups[name] = len(channels), sum(each in kept for each in channels)
    return kept, groups


def _named(path: str, shares: Mapping[str, float]) -> str:
    """The group of a batch norm: the longest given name that its path begins with, else `group_of`."""
    given = [name for name in shares if name and (path == name or path.startswith(f"{name}."))]
    return max(given, key=len) if given else group_of(path)


def _passes(module: Any) -> bool:
    return isinstance(module, _BatchNorm) or getattr(module, "groups", 1) > 1


def _sizes(module: Any) -> tuple[int, int]:
    if isinstance(module, _BatchNorm):
        return module.num_features, module.num_features
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    return module.in_channels, module.out_channels


def _others(kept: Sequence[int], count: int) -> list[int]:
    return sorted(set(range(count)) - set(kept))


def _cut(module: Any, ins: list[int], outs: list[int]) -> None:
    """Leave a layer these input and output channels."""
    device = module.weight.device
    into, out = torch.tensor(ins, device=device), torch.tensor(outs, device=device)
    for name in ("weight", "bias", "running_mean", "running_var"):
        value = getattr(module, name, None)
        if value is None:
            continue
        cut = value.detach()[out]
        if name == "weight" and not _passes(module):
            cut = cut[:, into]
        if isinstance(value, nn.Parameter):
            setattr(module, name, nn.Parameter(cut.clone(), requires_grad=value.requires_grad))
        else:
            setattr(module, name, cut.clone())
    if isinstance(module, _BatchNorm):
        module.num_features = len(outs)
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = len(ins), len(outs)
    else:
        module.groups = len(outs) if module.groups > 1 else 1
        module.in_channels, module.out_channels = len(ins), len(outs)


@torch.no_grad()
def _apart(masked: nn.Module, pruned: nn.Module, forward: Forward) -> float:
    """How far the outputs are apart, over `max(1, |value|)`.

    Raises:
        ValueError: the pruned network does not run, or says something else: a coupling was not seen.
    """
    why = "a coupling of its channels is not seen, so that nothing is removed; prune other groups only, keep={...: ...}"
    with at_rest(masked):
        try:
            first, second = copy.deepcopy(masked).double(), copy.deepcopy(pruned).double()
            expected = _flat(forward(first))
        except (RuntimeError, TypeError):  # an operation without double precision
            first, second = masked, pruned
            expected = _flat(forward(first))
    if not expected or not all(each.isfinite().all() for each in expected):
        what = "numbers that are not finite" if expected else "no tensor"
        raise ValueError(f"prune_channels: forward returns {what}, by which nothing can be compared")
    with at_rest(second):
        try:
            found = _flat(forward(second))
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:  # as each layer words it
            said = (str(error).splitlines() or [""])[0]
            raise ValueError(f"prune_channels: the pruned network does not run ({said}): {why}") from error
    if [each.shape for each in expected] != [each.shape for each in found]:
        raise ValueError(f"prune_channels: the pruned network returns other shapes: {why}")
    gaps = [((a - b).abs() / a.abs().clamp_min(1)).max() for a, b in zip(expected, found) if a.numel()]
    apart = float(torch.stack([gap.double() for gap in gaps]).max()) if gaps else 0.0
    if not apart <= TOLERANCE:
        raise ValueError(f"prune_channels: the pruned network differs from the masked one by {apart:.1e}: {why}")
    return apart


def _flat(value: Any) -> list[Tensor]:
    return [each for each in tensors_in(value) if each.is_floating_point()]


@torch.no_grad()
def _hand_constants_on(
    model: nn.Module, pruned: nn.Module, coupled: Coupled, cuts: dict[str, Any], forward: Forward
) -> None:
    """Add what layers read of removed channels, constants where scales are 0, to a bias or the next norm's mean."""
    flat = copy.deepcopy(model)
    for path, (_, outs) in cuts.items():
        norm: Any = flat.get_submodule(path)
        if isinstance(norm, _BatchNorm):
            norm.weight.data[_others(outs, norm.num_features)] = 0
    seen: dict[str, list[Tensor]] = {}

    def look(path: str, gone: list[int]) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            read = args[0][:, gone].transpose(0, 1).flatten(1)
            seen.setdefault(path, []).append(read.median(1).values)

        return hook

    for path, (ins, _) in cuts.items():
        layer = coupled.layers[path]
        gone = _others(ins, len(layer.reads))
        if layer.makes and gone:
            flat.get_submodule(path).register_forward_pre_hook(look(path, gone))
    with at_rest(flat):
        forward(flat)
    for path, constants in seen.items():
        layer, (ins, outs) = coupled.layers[path], cuts[path]
        weight = layer.module.weight.detach()[outs][:, _others(ins, len(layer.reads))]  # type: ignore[operator]
        added = weight.flatten(2).sum(2) if weight.ndim > 2 else weight
        added = added @ torch.stack(constants).mean(0).to(added)
        own: Any = pruned.get_submodule(path)
        if own.bias is not None:
            own.bias.data += added
            continue
        for name in layer.norms:
            norm = pruned.get_submodule(name)
            if norm.running_mean is not None:
                norm.running_mean -= added

"""A small world of humans and objects whose relations and actions are known; no download needed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from graphkd.scenes.scenes import Scenes, pairs_within
from graphkd.spec import real, whole

LABELS = ("human", "lamp", "cup", "book", "socket")
PREDICATES = ("left of", "right of", "above", "below", "holds", "held by", "uses", "used by")
ACTIONS = ("passes to the right", "passes to the left", "passes downwards", "passes upwards")
_WIDTH, _HUMAN, _OBJECT, _FAR, _REACH = 12, 12.0, 6.0, 45.0, 16.0


def passes(
    *,
    videos: int = 200,
    frames: int = 4,
    labelled: float = 1.0,
    cue: float = 0.5,
    noise: float = 0.2,
    jitter: float = 1.0,
    drift: float = 10.0,
    seed: int = 0,
) -> Scenes:
    """A human passes a lamp, between two other objects, in one of four directions.

    The action is the direction. A frame has the relation of human and lamp, and no single one tells whether the human
    comes or goes: frames in the reverse order are another action. The human's look is a weak cue of the action in each
    frame, right with the probability `cue`. The camera drifts, so that what moves is seen against the objects alone.

    Relations hold between the true boxes. Two entities less than 45 apart are left of, right of, above or below each
    other, whichever they are more; a human who is less than 16 from an object holds it, or uses it where the scene has
    a socket, which a pair alone does not tell. To each relation belongs another in the opposite direction.

    Args:
        videos: how many; three fifths are to learn from, a fifth each to choose the epoch by and to test.
        frames: in each video.
        labelled: share of the videos to learn from whose action is known.
        cue: how often the human's look in a frame is that of the action; else it is drawn from all.
        noise: standard deviation of the features around those of their class.
        jitter: standard deviation of the sides of boxes around the true ones, cut at 3.
        drift: standard deviation of the place of the camera.
        seed: of what is drawn.

    Raises:
        ValueError: a number is out of range.
    """
    videos, frames = whole("videos", videos, 10), whole("frames", frames, 2)
    labelled, cue = real("labelled", labelled), real("cue", cue)
    noise, jitter, drift = real("noise", noise), real("jitter", jitter), real("drift", drift)
    if not 0 < labelled <= 1 or cue > 1:
        raise ValueError(f"labelled is above 0 and at most 1, cue at most 1; got {labelled} and {cue}")
    draw = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    action = torch.randint(4, (videos,), generator=draw)
    way = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])[action]
    human = way[:, None] * torch.linspace(-30, 30, frames)[:, None] + 3 * normal(videos, frames, 2)
    # the lamp stands in the middle, two other objects on opposite sides of it
    angle = 2 * math.pi * drawn(videos)
    ring = 30 * torch.stack([angle.cos(), angle.sin()], 1)
    objects = torch.stack([torch.zeros(videos, 2), ring, -ring], 1)[:, None].expand(videos, frames, 3, 2)
    middle = torch.cat([human[:, :, None], objects], 2).reshape(-1, 2)
    kinds = 2 + drawn(videos, 3).argsort(1)[:, :2]
    socket = (kinds == LABELS.index("socket")).any(1)
    each = torch.cat([torch.tensor([0, 1]).expand(videos, 2), kinds], 1)
    label = each[:, None].expand(videos, frames, 4).flatten()
    half = torch.where(label == 0, _HUMAN, _OBJECT)[:, None]
    moment = torch.arange(videos * frames).repeat_interleave(4)
    look = torch.where(drawn(videos, frames) < cue, action[:, None], torch.randint(4, (videos, frames), generator=draw))
    features = torch.zeros(len(label), _WIDTH)
    features[torch.arange(len(label)), label] = 1
    features[(label == 0).nonzero().flatten(), len(LABELS) + look.flatten()] = 1
    features += noise * normal(*features.shape)
    camera = (100 + drift * normal(videos * frames, 2))[moment]
    boxes = torch.cat([middle + camera - half, middle + camera + half], 1)
    boxes += (jitter * normal(*boxes.shape)).clamp(-3, 3)
    parts = torch.arange(videos) % 5
    parts = torch.where(parts < 3, 0, parts - 2)
    learned = (parts == 0).nonzero().flatten()
    known = action.clone()
    known[learned[max(1, round(labelled * len(learned))) :]] = -1
    return Scenes.of(
        dict(
            features=features,
            boxes=boxes,
            labels=label,
            frame=torch.arange(frames).repeat_interleave(4).repeat(videos),
            video=torch.arange(videos).repeat_interleave(4 * frames),
            track=torch.arange(4).repeat(videos * frames),
            actions=known,
            relations=_relations(middle, label, moment, socket.repeat_interleave(4 * frames)),
            parts=parts,
            label_names=LABELS,
            action_names=ACTIONS,
            predicate_names=PREDICATES,
        )
    )


def _relations(middle: Tensor, label: Tensor, moment: Tensor, socket: Tensor) -> Tensor:
    """Subject, object and predicate `(R, 3)` of the true boxes."""
    subject, other = pairs_within(moment)
    right, down = (middle[other] - middle[subject]).unbind(1)
    across = right.abs() > down.abs()
    side = torch.where(across, torch.where(right > 0, 0, 1), torch.where(down > 0, 2, 3))
    distance = torch.hypot(right, down)
    touching = (distance < _REACH) & ((label[subject] == 0) | (label[other] == 0))
    touch = 4 + (label[subject] != 0).long() + 2 * socket[subject].long()
    return torch.stack([subject, other, torch.where(touching, touch, side)], 1)[distance < _FAR]

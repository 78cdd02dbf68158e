"""Checks and conversions shared by all losses: matching tensors, full precision, teacher detached."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

Match = Literal["shape", "positions", "channels", "samples", "inner"]

CONTEXT = (
    *("weight", "labels", "label_map", "boxes", "boxes_bev", "masks", "edge_index", "batch", "point_counts"),
    *("progress", "epoch"),
    *("student_logits", "teacher_logits", "privacy"),
)
"""Names of context arguments that a loss may declare; the caller passes those that it has."""


class Ground(NamedTuple):
    """What a loss declares about its tensors and options when it is registered, see `register`; defaults for others."""

    match: Match = "shape"
    categorical: bool = False
    maps: bool = False
    over_classes: bool = False
    middle: bool = False
    least: Mapping[str, float] | None = None  # None: options have no least value
    infinite: frozenset[str] = frozenset()
    most: Mapping[str, float] = MappingProxyType({})


def on_common_ground(
    body: Callable[..., Tensor],
    key: str,
    ground: Ground,
    student: Tensor,
    teacher: Tensor,
    context: dict[str, Any],
    widths: Mapping[str, int] | None = None,
) -> Tensor:
    """Check the tensors of a loss, then run its body in full precision, without autocast, with the teacher detached.

    `widths` are the numbers of channels that a module was built for, of `student` and `teacher`.
    """
    _check_pair(key, ground, student, teacher)
    for side, width in (widths or {}).items():
        shape = (student if side == "student" else teacher).shape
        if shape[1] != width:
            raise ValueError(f"{key}: built for {width} channels of the {side} on axis 1, got {side} {tuple(shape)}")
    context = {
        name: _CHECKS[name](key, value, student) if name in _CHECKS else value for name, value in context.items()
    }
    if student.numel() == 0:
        return full(student).sum()
    student, teacher = full(student), teacher.detach()
    teacher = teacher.to(student.dtype)
    weight = context.get("weight")
    if weight is not None:  # masked positions cannot matter, not even in the gradient of a NaN
        counts = (weight > 0).unsqueeze(1)
        student = torch.where(counts, student, 0)
        teacher = torch.where(counts, teacher, 0) if teacher.shape[2:] == student.shape[2:] else teacher
    with torch.autocast(student.device.type, enabled=False):
        return body(student, teacher, **context)


def full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _check_pair(key: str, ground: Ground, student: Tensor, teacher: Tensor) -> None:
    for name, value in (("student", student), ("teacher", teacher)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{key}: {name} must be a tensor, got {type(value).__name__}")
        _check_dense(key, name, value)
        if not value.is_floating_point():
            raise TypeError(
                f"{key}: {name} must be floating point, got {value.dtype}; a loss compares logits or features, not the "
                "classes chosen from them"
            )
    a, b = student.shape, teacher.shape
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"{key}: expected (N, C, *) tensors, got student {tuple(a)} and teacher {tuple(b)}")
    if student.device != teacher.device:
        raise ValueError(f"{key}: student is on {student.device}, teacher on {teacher.device}; move one with .to(...)")
    fits = {
        "shape": a == b,
        "positions": a[:1] + a[2:] == b[:1] + b[2:],
        "channels": a[:2] == b[:2],
        "samples": a[0] == b[0],
        "inner": True,  # the loss inside checks
    }[ground.match]
    if not fits:
        raise ValueError(f"{key}: student {tuple(a)} and teacher {tuple(b)} must agree in {ground.match}")
    for name, shape in (("student", a), ("teacher", b)):
        if 0 in (shape[1:2] if name == "teacher" and ground.match == "samples" else shape[1:]):
            raise ValueError(f"{key}: {name} {tuple(shape)} has no channel or no position; only N may be 0")
    if ground.maps and len(a) != 4:
        raise ValueError(f"{key}: the loss needs maps (N, C, H, W), got student {tuple(a)}")
    if ground.categorical and a[1] == 1:
        raise ValueError(
            f"{key}: the loss compares the channels of a position with each other and needs at least two classes, got "
            f"student {tuple(a)}; the logit z of one sigmoid stands for two: torch.cat([torch.zeros_like(z), z], 1)"
        )


def _check_weight(key: str, weight: Any, student: Tensor) -> Tensor | None:
    if weight is None:
        return None
    weight = _of_positions(key, "weight", weight, student)
    if weight.is_complex():
        raise TypeError(f"{key}: weight must be bool or a number for each position, got {weight.dtype}")
    if weight.dtype != torch.bool and readable(weight) and bool(((weight < 0) | (weight == math.inf)).any()):
        least, most = weight.min().item(), weight.max().item()
        raise ValueError(f"{key}: weight must be finite and at least 0, got {least} to {most}")
    return weight


def _check_privacy(key: str, privacy: Any, student: Tensor) -> Tensor | None:
    if privacy is None:
        return None
    privacy = _of_positions(key, "privacy", privacy, student)
    if privacy.dtype != torch.bool and readable(privacy) and not bool(((privacy >= 0) & (privacy <= 1)).all()):
        least, most = privacy.min().item(), privacy.max().item()
        raise ValueError(f"{key}: privacy must be bool or from 0 (public) to 1 (private), got {least} to {most}")
    return privacy


def _check_labels(key: str, labels: Any, student: Tensor) -> Tensor | None:
    return None if labels is None else _whole(key, "labels", _of_positions(key, "labels", labels, student))


def _check_label_map(key: str, label_map: Any, student: Tensor) -> Tensor | None:
    if label_map is None:
        return None
    label_map = _whole(key, "label_map", _tensor(key, "label_map", label_map, student))
    if label_map.ndim != 3 or len(label_map) != len(student):
        raise ValueError(f"{key}: label_map must be ({len(student)}, H, W), got {tuple(label_map.shape)}")
    return label_map


def _check_edges(key: str, edges: Any, student: Tensor) -> Tensor | None:
    if edges is None:
        return None
    edges = _whole(key, "edge_index", _tensor(key, "edge_index", edges, student))
    if student.ndim != 2:
        raise ValueError(f"{key}: edge_index joins nodes (N, C), got student {tuple(student.shape)}")
    if edges.ndim != 2 or len(edges) != 2:
        raise ValueError(f"{key}: edge_index must be (2, E), got {tuple(edges.shape)}")
    if edges.numel() and readable(edges) and not bool((edges >= 0).all() & (edges < len(student)).all()):
        raise ValueError(
            f"{key}: edge_index names nodes {edges.min().item()} to {edges.max().item()}, the student has "
            f"{len(student)}: rows 0 to {len(student) - 1}"
        )
    return edges


def _check_batch(key: str, batch: Any, student: Tensor) -> Tensor | None:
    if batch is None:
        return None
    batch = _whole(key, "batch", _tensor(key, "batch", batch, student))
    if batch.shape != student.shape[:1]:
        raise ValueError(f"{key}: batch must have shape {tuple(student.shape[:1])}, got {tuple(batch.shape)}")
    return batch


def _check_logits(name: str) -> Callable[[str, Any, Tensor], Tensor | None]:
    def check(key: str, logits: Any, student: Tensor) -> Tensor | None:
        if logits is None:
            return None
        logits = _tensor(key, name, logits, student)
        if not logits.is_floating_point() or logits.ndim < 2 or len(logits) != len(student):
            raise ValueError(
                f"{key}: {name} must be logits ({len(student)}, C, *), got {tuple(logits.shape)} of {logits.dtype}"
            )
        return logits

    return check


def _check_each(name: str, axes: int, width: int | None) -> Callable[[str, Any, Tensor], Any]:
    def check(key: str, each: Any, student: Tensor) -> Any:
        if each is None:
            return None
        if isinstance(each, str) or not isinstance(each, Sequence | Tensor) or len(each) != len(student):
            got = len(each) if hasattr(each, "__len__") else type(each).__name__
            raise ValueError(f"{key}: {name} must be a list of {len(student)} tensors, one for each sample, got {got}")
        for one in each:
            if _tensor(key, name, one, student).ndim != axes or (width and one.shape[-1] != width):
                wanted = "(n, H, W)" if width is None else f"(n, {width})"
                raise ValueError(f"{key}: each of {name} must be {wanted}, got {tuple(one.shape)}")
        return each

    return check


def _check_progress(key: str, progress: Any, student: Tensor) -> Any:
    if progress is None or (_is_number(progress) and 0 <= progress <= 1):
        return progress
    raise ValueError(f"{key}: progress is the share of the training that is done, 0 to 1, got {progress!r}")


def _check_epoch(key: str, epoch: Any, student: Tensor) -> Any:
    if epoch is None or (_is_number(epoch) and 0 <= epoch < math.inf):
        return epoch
    raise ValueError(f"{key}: epoch is the number of the current epoch, at least 0, got {epoch!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


_CHECKS: dict[str, Callable[[str, Any, Tensor], Any]] = {
    "weight": _check_weight,
    "labels": _check_labels,
    "label_map": _check_label_map,
    "boxes": _check_each("boxes", 2, 4),
    "boxes_bev": _check_each("boxes_bev", 2, 5),
    "masks": _check_each("masks", 3, None),
    "edge_index": _check_edges,
    "batch": _check_batch,
    "progress": _check_progress,
    "epoch": _check_epoch,
    "student_logits": _check_logits("student_logits"),
    "teacher_logits": _check_logits("teacher_logits"),
    "privacy": _check_privacy,
}


def readable(tensor: Tensor) -> bool:
    """Whether values can be read for free: the tensor is on the CPU, and no graph is being compiled."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _tensor(key: str, name: str, value: Any, student: Tensor) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{key}: {name} must be a tensor, got {type(value).__name__}")
    _check_dense(key, name, value)
    if value.device != student.device:
        raise ValueError(f"{key}: {name} is on {value.device}, student on {student.device}; move one with .to(...)")
    return value


def _check_dense(key: str, name: str, value: Tensor) -> None:
    if value.layout is not torch.strided:
        raise TypeError(f"{key}: {name} must be dense, got {value.layout}; convert with .to_dense()")


def _of_positions(key: str, name: str, value: Any, student: Tensor) -> Tensor:
    positions = student.shape[:1] + student.shape[2:]
    if _tensor(key, name, value, student).shape != positions:
        raise ValueError(f"{key}: {name} must have shape {tuple(positions)}, got {tuple(value.shape)}")
    return value


def _whole(key: str, name: str, value: Tensor) -> Tensor:
    if value.is_floating_point() or value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{key}: {name} must be whole numbers, got {value.dtype}; convert with .long()")
    return value.long()

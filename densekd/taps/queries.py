"""Heads of which the rows are queries: DETR's kind tells a box of each, MaskFormer's a mask; where they are tapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from torch import Tensor

from densekd.taps.replaced import replaced

Shape = Literal["boxes", "masks"]
_KINDS: dict[str, Shape] = {"DETRHead": "boxes", "MaskFormerHead": "masks"}
"""By the class of a head, of which the others are subclasses: what is told of each query."""
_OTHERS = {
    "DDQDETRHead": "its queries are another choice in training than in evaluation",
    "GroundingDINOHead": "its classes are the tokens of a text",
}
_PLACES = ("bbox_head", "panoptic_head", "decode_head")


class Layer(NamedTuple):
    """What a layer of a decoder tells of its queries.

    Attributes:
        classes: logits `(B, Q, K)`; with background after them where there is one softmax.
        shapes: centres and sizes of boxes `(B, Q, 4)`, each 0 to 1 of the image; or logits of masks `(B, Q, h, w)`.
        embeddings: what the class layer reads, `(B, Q, D)`.
    """

    classes: Tensor
    shapes: Tensor
    embeddings: Tensor


class QueryHead(NamedTuple):
    """A head of which the rows are queries.

    Attributes:
        path: where it is.
        shape: what it tells of each query beside its class, 'boxes' or 'masks'.
        queries: how many there are, without those that a training by denoising adds in front.
        classes: how many, without background.
        sigmoid: whether each class has a sigmoid of its own; else they share a softmax with background, the last.
        depth: layers that tell their queries.
    """

    path: str
    shape: Shape
    queries: int
    classes: int
    sigmoid: bool
    depth: int

    @property
    def tap(self) -> str:
        """The tap that yields all that `layers` reads."""
        read = f"{self.path}:in" if self.shape == "boxes" else f"{self.path}.cls_embed:in"
        return f"{self.path}:0+{self.path}:1+{read}"

    @property
    def memory(self) -> str:
        """The tap of what the decoder attends to: tokens of an encoder and maps of their sizes, or maps.

        `densekd.align.memory.Memory` makes maps of the tokens.
        """
        return "encoder+neck" if self.shape == "boxes" else f"{self.path}.pixel_decoder:0+{self.path}.pixel_decoder:1"

    def layers(self, levels: Sequence[Tensor]) -> list[Layer]:
        """What each layer tells, first to last, from the tensors of `tap`."""
        each = len(levels) // 3
        parts = [_unstacked(levels[i * each : (i + 1) * each], ndim) for i, ndim in enumerate(self._ndims)]
        return [Layer(*(part[:, -self.queries :] for part in layer)) for layer in zip(*parts, strict=True)]

    @property
    def _ndims(self) -> tuple[int, int, int]:
        return 3, (3 if self.shape == "boxes" else 4), 3


def _unstacked(tensors: Sequence[Tensor], ndim: int) -> list[Tensor]:
    """The tensors of all layers, which some heads yield one by one, others as one tensor `(L, ...)`."""
    return [part for each in tensors for part in (each.unbind(0) if each.ndim > ndim else (each,))]


def kind_of(head: Any) -> Shape | None:
    """What a head of mmdet or mmseg tells of its queries; None for other heads.

    >>> import torch
    >>> kind_of(torch.nn.Linear(2, 2)) is None
    True
    """
    return next((_KINDS[each.__name__] for each in type(head).__mro__ if each.__name__ in _KINDS), None)


def query_head(model: Any) -> QueryHead | None:
    """Return the head of a model of which the rows are queries; None where it has none, or one that is not known."""
    found = _place(model)
    if found is None or _refused(found[1]):
        return None
    path, head = found
    shape = kind_of(head)
    assert shape is not None
    if shape == "masks":
        return QueryHead(path, shape, head.num_queries, head.num_classes, False, _depth_of_masks(head))
    depth = model.decoder.num_layers if getattr(model.decoder, "return_intermediate", True) else 1
    return QueryHead(path, shape, model.num_queries, head.num_classes, bool(head.loss_cls.use_sigmoid), depth)


def _depth_of_masks(head: Any) -> int:
    several = any(each.__name__ == "Mask2FormerHead" for each in type(head).__mro__)
    return head.transformer_decoder.num_layers + several  # it tells its queries before the first layer, too


def _place(model: Any) -> tuple[str, Any] | None:
    heads = ((path, getattr(model, path, None)) for path in _PLACES)
    return next(((path, head) for path, head in heads if kind_of(head) is not None), None)


def _refused(head: Any) -> str:
    return next((_OTHERS[each.__name__] for each in type(head).__mro__ if each.__name__ in _OTHERS), "")


def heads_of(method: str, student: Any, teacher: Any) -> tuple[QueryHead, QueryHead]:
    """Return the heads of two models that both tell boxes, or masks, of queries.

    Raises:
        ValueError: a model has no such head, or the two tell other things.
    """
    found = []
    for side, model in (("student", student), ("teacher", teacher)):
        head = query_head(model)
        if head is None:
            place = _place(model)
            own = place[1] if place else _head(model)
            why = f", and {_refused(place[1])}" if place else ""
            raise ValueError(
                f"method {method!r} matches queries: it is for detectors with a head of DETR, Conditional, DAB or "
                "Deformable DETR or DINO, and for segmenters with one of MaskFormer or Mask2Former; the "
                f"{side}, a {type(model).__name__}, has a {type(own).__name__}{why}. 'proposals' teaches two-stage "
                "detectors, 'crosskd' and 'ld' heads of one stage, 'pkd' and 'fgd' necks of any"
            )
        found.append(head)
    mine, its = found
    if mine.shape != its.shape:
        raise ValueError(f"method {method!r}: the student tells {mine.shape} of its queries, the teacher {its.shape}")
    return mine, its


def _head(model: Any) -> Any:
    return next((getattr(model, path) for path in ("roi_head", *_PLACES) if hasattr(model, path)), model)


@contextmanager
def called(model: Any, samples: Any = None) -> Iterator[None]:
    """While it lasts, a model calls its head of queries as a module, so that taps see what goes in and out.

    In `mode='tensor'` models of mmdet and mmseg run `head.forward` as a plain function, which no hook sees. Nothing is
    changed for other models. Where the head is called as a module anyway, as in training, hooks would run twice: this
    is for `mode='tensor'` alone.

    Args:
        model: the model.
        samples: data samples of the batch, for a head that reads them and is not handed any.
    """
    found = _place(model)
    if found is None or _refused(found[1]):
        yield
        return
    head, plain = found[1], found[1].forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        if kind_of(head) == "masks" and len(args) + len(kwargs) == 1:  # mmseg's segmenter hands over features alone
            kwargs["batch_data_samples"] = _sized(samples)
        with replaced(head, {"forward": plain}):
            return head(*args, **kwargs)

    with replaced(head, {"forward": forward}):
        yield


def _sized(samples: Sequence[Any]) -> list[Any]:
    """Samples with the size of the batch, which MaskFormer reads; mmseg takes that of an image, too."""
    sizes = [{"batch_input_shape": each.metainfo.get("img_shape"), **each.metainfo} for each in samples]
    return [each.new(metainfo=size) for each, size in zip(samples, sizes)]

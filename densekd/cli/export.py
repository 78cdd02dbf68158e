"""Export the plain student of a taught or plain config: its weights alone, or as an ONNX model.

    densekd export work_dirs/digits --weights student.pth        for mmseg, mmdet and their tools
    densekd export work_dirs/digits --out student.onnx --check   segmenters, and one-stage detectors

A work_dir stands for its latest checkpoint, and for the config that lies in it. The ONNX model takes `images`
(batch, channels, H, W), float32, normalised as `mean`, `std` and `bgr_to_rgb` in its metadata say (`null`: not at all),
of as many channels as the student was trained on, the metadata's `channels`; it yields `logits` (batch, classes, H, W),
which mmseg predicts from where the whole image is one window. H and W are fixed, batch is not.

Of a one-stage detector of mmdet it yields what the head tells at each level i, in the order of `strides`, of most heads
from the finest: `classes_i` (batch, priors x classes, h, w), before a sigmoid or softmax, `boxes_i` (batch, priors x 4,
h, w; of GFL 4 x bins), and of some heads `centerness_i` or `objectness_i`. Decoding boxes and non-maximum suppression
are left to the caller: the metadata says how to decode, by `head` (mmdet's class), `strides` (x, y), `anchors` (x1, y1,
x2, y2 of each prior around the first place of a level) or `offset` (of the first point, in strides), `coder`, `sigmoid`
and `reg_max`, as far as a head has them.

A student that learned by the loss `leaf` keeps its output layer: the ONNX model yields `embeddings` (batch, C, h, w) as
well, in the space of the teacher's features, so that these may be searched with them. Beside the weights the layer is
`embeddings`: its `tap`, `weight` and `bias`.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from densekd import build_model, control, load_weights, read_config
from densekd.checkpoint import of_average, weights_in
from densekd.cli import _raw_heads as raw_heads
from densekd.taps.defaults import is_segmenter
from densekd.taps.reader import Taps
from kdlosses.cli.parser import Parser
from kdlosses.pointwise import Pointwise

TOLERANCE = 1e-4  # between torch and ONNX, relative where a logit is greater than 1

Size = tuple[int, int]


class Embedding(nn.Module):
    """The output layer of a student that learned by `leaf`: from a tap of it to the teacher's space.

    Args:
        tap: of the student, see `densekd.Taps`.
        weight: `(C_t, C_s)`.
        bias: `(C_t,)`.
    """

    def __init__(self, tap: str, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.tap, self.output = tap, Pointwise(weight.shape[1], weight.shape[0])
        self.output.load_state_dict({"weight": weight, "bias": bias})

    def forward(self, features: Tensor) -> Tensor:
        return self.output(features)

    @classmethod
    def of(cls, config: Any, state: dict[str, Tensor]) -> Embedding | None:
        """That of a distiller's config and checkpoint, None where no entry is of `leaf`.

        Raises:
            ValueError: the checkpoint lacks the layer, or several entries have one.
        """
        found = []
        for entry in config.model.get("distills") or ():
            loss = entry.get("loss")
            if (loss.get("type") if isinstance(loss, dict) else loss) == "leaf":
                found.append((entry["student"], f"distill.{entry.get('name') or 'leaf'}.loss.loss.output."))
        if not found:
            return None
        if len(found) > 1:
            raise ValueError(f"{len(found)} entries of distills are of 'leaf': a student keeps one output layer")
        ((tap, place),) = found
        if f"{place}weight" not in state:
            raise ValueError(f"the checkpoint lacks {place}weight, the output layer of its entry 'leaf'")
        return cls(tap, state[f"{place}weight"].float(), state[f"{place}bias"].float())


class Answer(nn.Module):
    """From normalised images to logits of their size, as mmseg makes them before it predicts, or of the head's size.

    Of a detector to what its head tells, see `densekd.cli._raw_heads`. With an `Embedding` the embeddings follow.
    """

    def __init__(
        self,
        model: nn.Module,
        size: Size,
        resized: bool = True,
        channels: int = 3,
        embedding: Embedding | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.embedding = embedding
        self.channels = channels
        self.meta = [{"img_shape": size, "pad_shape": size}]
        self.resized = resized

    def images(self, batch: int) -> Tensor:
        """Random images of its size."""
        shape = (batch, self.channels, *self.meta[0]["img_shape"])
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    @property
    def names(self) -> list[str]:
        """What it yields."""
        if not hasattr(self.model, "bbox_head"):
            told = ["logits"]
        else:
            with torch.no_grad():
                told = raw_heads.names(self.model, self.model(self.images(1), mode="tensor"))
        return told if self.embedding is None else [*told, "embeddings"]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        if self.embedding is None:
            return self._told(images)
        with Taps(self.model, [self.embedding.tap]) as taps:
            told = self._told(images)
        return *told, self.embedding(taps[self.embedding.tap][0])

    def _told(self, images: Tensor) -> tuple[Tensor, ...]:
        if hasattr(self.model, "bbox_head"):
            return raw_heads.levels(self.model, self.model(images, mode="tensor"))
        if self.resized:
            return (self.model.encode_decode(images, self.meta),)
        return (self.model(images, mode="tensor"),)


def to_onnx(answer: Answer, path: Path, meta: dict[str, Any]) -> None:
    """Write an ONNX model with `meta` as JSON values in its metadata.

    Raises:
        ImportError: onnx or onnxscript is not installed.
        ValueError: the student computes what ONNX cannot express.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which nothing here needs
    try:
        import onnx  # noqa: F401  named, where it is what is missing
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ImportError(f"--out needs {error.name}: pip install 'graphdensekd[onnx]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        try:
            program = torch.onnx.export(
                answer,
                (answer.images(2),),
                input_names=["images"],
                output_names=answer.names,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            reason = str(error.__cause__ or error).splitlines()[0]
            raise ValueError(
                f"a {type(answer.model).__name__} has an operator that ONNX does not know, such as mmcv's deformable "
                f"convolution, or a step that depends on values: {reason}"
            ) from error
    assert program is not None
    program.model.metadata_props.update({key: json.dumps(value) for key, value in meta.items()})
    program.save(path)


@torch.no_grad()
def difference(answer: Answer, path: Path, batch: int = 3) -> float:
    """Return the greatest difference of torch and ONNX on random images, over `max(1, |value|)`."""
    images = answer.images(batch)
    expected = [each.numpy() for each in answer(images)]
    try:
        import onnxruntime

        session: Any = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except ModuleNotFoundError:
        from onnx.reference import ReferenceEvaluator

        session = ReferenceEvaluator(str(path))
    found = session.run(answer.names, {"images": images.numpy()})
    return max(float((abs(a - b) / np.maximum(1, abs(b))).max()) for a, b in zip(found, expected))


@torch.no_grad()
def answer_of(model: nn.Module, size: Size, resized: bool, embedding: Embedding | None = None) -> Answer:
    """Find out how many channels an image of the student has, by running it.

    A preprocessor says so by its mean, unless that is one number for all; else the first convolution does, which some
    stems feed with pixels folded into channels.

    Raises:
        ValueError: it runs on none of them, say because the size is not one that it takes.
    """
    mean = getattr(getattr(model, "data_preprocessor", None), "mean", None)
    stem = next((module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)), 3)
    tried = dict.fromkeys([*([mean.numel()] if mean is not None and mean.numel() > 1 else []), stem, stem // 4, 3])
    reasons = []
    for channels in filter(None, tried):
        answer = Answer(model, size, resized, channels, embedding).eval()
        try:
            answer(answer.images(2))
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:  # as each network words it
            reasons.append(f"{channels} channels: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        else:
            return answer
    raise ValueError(f"the student does not run on images of {size[0]}x{size[1]} ({'; '.join(reasons)})")


def config_in(source: str | Path) -> Path:
    """Return the config that a run left in its work_dir, or next to its checkpoint.

    Raises:
        FileNotFoundError: there is none, or more than one; or no such checkpoint.
    """
    path = Path(source).expanduser()
    work_dir = path if path.is_dir() else path.parent
    if not path.exists():
        raise FileNotFoundError(f"there is no checkpoint {source}")
    found = sorted(work_dir.glob("*.py"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(f"{work_dir} must hold one config, there is {names}; name the config after it")
    return found[0]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd export")
    parser.add_argument("checkpoint", help="what training left: a file, or a work_dir for the latest one there")
    parser.add_argument(
        "config", nargs="?", help="of the student, or of a distiller (default: the one in the work_dir)"
    )
    parser.add_argument("--out", type=Path, help="write an ONNX model here")
    parser.add_argument("--weights", type=Path, help="write the plain student's weights here")
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="of the images (default: the config's crop)"
    )
    parser.add_argument("--head-size", action="store_true", help="logits as the head leaves them, not at image size")
    parser.add_argument("--check", action="store_true", help=f"run the ONNX model: it must agree to {TOLERANCE:g}")
    parser.add_argument("--unsafe-checkpoints", action="store_true", help="run code that the checkpoint may contain")
    args = parser.parse_args(arguments)
    if not args.out and not args.weights:
        parser.error("give --out, --weights or both")
    if args.size and min(args.size) < 1:
        parser.error(f"--size takes the height and width of an image, got {args.size[0]} {args.size[1]}")
    if args.out and args.weights and args.out.resolve() == args.weights.resolve():
        parser.error(f"--out and --weights both name {args.out}")
    for option in ("size", "head_size", "check"):
        if not args.out and getattr(args, option):
            parser.error(f"--{option.replace('_', '-')} is of the ONNX model: give --out")
    for path in filter(None, (args.out, args.weights)):
        if path.exists():
            parser.error(f"{path} exists; remove it or choose another name")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Build the plain student, load its weights, and write what was asked for."""
    from mmengine.model import revert_sync_batchnorm

    args = parse(arguments)
    config = read_config(args.config or config_in(args.checkpoint))
    given = copy.deepcopy(config)
    model: Any = build_model(control(config))[0]
    checkpoint = load_weights(model, args.checkpoint, args.unsafe_checkpoints)
    embedding = Embedding.of(given, checkpoint.get("state_dict", checkpoint))
    told = checkpoint.get("meta", {}).get("dataset_meta") or {}
    if args.weights:
        known = {*of_average(weights_in(checkpoint, args.checkpoint))}
        state = {key: value for key, value in model.state_dict().items() if key in known}
        args.weights.parent.mkdir(parents=True, exist_ok=True)
        kept = {} if embedding is None else {"embeddings": {"tap": embedding.tap, **embedding.output.state_dict()}}
        torch.save({"state_dict": state, "meta": {"dataset_meta": told}, **kept}, args.weights)
        print(f"{args.weights}: weights of the plain {type(model).__name__}")
    if not args.out:
        return
    detects = not is_segmenter(model)
    if detects:
        if args.head_size:
            sys.exit("--head-size is of the logits of a segmenter: a detector's levels have their own size")
        try:
            raw_heads.check(model)
        except ValueError as error:
            sys.exit(str(error))
    size = args.size or getattr(model.data_preprocessor, "size", None)
    if size is None:
        sys.exit("the config has no crop size: give --size H W")
    size = (size, size) if isinstance(size, int) else (size[0], size[1])
    answer = answer_of(revert_sync_batchnorm(model).eval(), size, not args.head_size, embedding)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    meta = {**_normalisation(model.data_preprocessor), "channels": answer.channels}
    meta |= raw_heads.meta(model) if detects else {}
    to_onnx(answer, args.out, {**meta, "classes": list(told.get("classes") or ())})
    shape = f"(batch, {answer.channels}, {size[0]}, {size[1]})"
    also = "" if embedding is None else f", and to embeddings of {embedding.output.out_features} channels"
    what = f"logits{' of the head' if args.head_size else ''}"
    if detects:
        what = ", ".join(name for name in answer.names if name != "embeddings")
    print(f"{args.out}: images {shape} to {what}{also}")
    if args.check:
        apart = difference(answer, args.out)
        print(f"greatest difference from torch: {apart:.1e}")
        if not apart <= TOLERANCE:
            sys.exit(f"{args.out} disagrees with torch by {apart:.1e}, {TOLERANCE:g} is allowed")


def _normalisation(preprocessor: Any) -> dict[str, Any]:
    mean, std = (getattr(preprocessor, name, None) for name in ("mean", "std"))
    return {
        "mean": None if mean is None else mean.flatten().tolist(),
        "std": None if std is None else std.flatten().tolist(),
        "bgr_to_rgb": bool(getattr(preprocessor, "_channel_conversion", False)),
    }

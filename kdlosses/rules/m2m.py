"""Module to module: distill one block of a network at a time, placed inside a small third network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from kdlosses.taps import find


def stitch(width_in: int, width_out: int) -> nn.Sequential:
    """Join blocks of different widths: a layer norm and a linear layer, on the last axis.

    >>> [type(part).__name__ for part in stitch(4, 8)]
    ['LayerNorm', 'Linear']
    """
    return nn.Sequential(nn.LayerNorm(width_in), nn.Linear(width_in, width_out))


class Spliced(nn.Module):
    r"""A meta model with one block replaced by another module.

    $$ F(x) = m_K \circ \dots \circ m_{i+1} \circ s_\mathrm{out} \circ b \circ s_\mathrm{in} \circ m_{i-1} \circ \dots
       \circ m_1 (x) $$

    A teacher's block and a student's module in the same place make two paths from the same inputs to the same kind of
    outputs, which any loss on logits compares. The meta model is frozen, and the module too if `frozen`; the gradient
    passes through them.

    Args:
        meta: its blocks, in order; each is called with one tensor.
        place: number of the block to replace, from 0.
        module: what stands there instead.
        before: stitch from the meta model's width to the module's; none if not given.
        after: stitch from the module's width to the meta model's; none if not given.
        frozen: freeze the module as well, as a teacher's block.

    Raises:
        ValueError: there is no such place.

    Paper: Lo et al., "m2mKD: Module-to-Module Knowledge Distillation for Modular Transformers", 2024. The loss on the
    two paths is $a \, \mathrm{KL}(p_T \| p_S) + (1 - a) \mathrm{CE}$ with a = 0.5; its KL is a mean over all elements:
    factor 1 / C.

    >>> import torch
    >>> meta = [nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)]
    >>> path = Spliced(meta, 1, nn.Linear(9, 9), stitch(4, 9), stitch(9, 4))
    >>> path(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    """

    def __init__(
        self,
        meta: Sequence[nn.Module],
        place: int,
        module: nn.Module,
        before: nn.Module | None = None,
        after: nn.Module | None = None,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        if not 0 <= place < len(meta):
            raise ValueError(f"m2m: the meta model has the blocks 0 to {len(meta) - 1}, got place {place}")
        self.meta = nn.ModuleList(meta).requires_grad_(False)
        self.place = place
        self.module = module.requires_grad_(not frozen)
        self.before = before or nn.Identity()
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        for place, block in enumerate(self.meta):
            x = self.after(self.module(self.before(x))) if place == self.place else block(x)
        return x


@contextmanager
def spliced(network: nn.Module, path: str, module: nn.Module) -> Iterator[None]:
    """Have a module stand in the place of a part of any network inside.

    `Spliced` does so for a chain of blocks; this for one whose parts are joined in other ways, such as a segmenter.

    Args:
        network: what is changed while the context lasts.
        path: of the part.
        module: is called as the part was.

    Raises:
        KeyError: the network has no such part.

    >>> import torch
    >>> network = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    >>> with spliced(network, "1", nn.Linear(4, 2)):
    ...     network(torch.zeros(5, 3)).shape
    torch.Size([5, 2])
    >>> type(network[1]).__name__
    'ReLU'
    """
    part = find(network, path)
    parent, name = network.get_submodule(path.rpartition(".")[0]), path.rpartition(".")[2]
    parent._modules[name] = module
    try:
        yield
    finally:
        parent._modules[name] = part

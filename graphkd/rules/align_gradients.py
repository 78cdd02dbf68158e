from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def align_gradients(gradients: Sequence[Tensor], main: Sequence[Tensor]) -> list[Tensor]:
    r"""Remove from the gradient of a side loss the component that conflicts with the main loss.

    $$ g \leftarrow g - \min\Big(0, \frac{\langle g, g_0 \rangle}{\|g_0\|^2}\Big) g_0 $$

    over all parameters as one vector. Where the two agree nothing changes; else what is left is at right angles to the
    main gradient, so that a small step does the main loss no harm.

    Args:
        gradients: g, one tensor for each parameter.
        main: $g_0$, likewise.

    Returns:
        the aligned gradients, of the same shapes.

    Paper: the alignment of Yang et al., "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an
    Auxiliary Head", 2024.

    >>> align_gradients([torch.tensor([-1.0, 1.0])], [torch.tensor([2.0, 0.0])])
    [tensor([0., 1.])]
    """
    product = torch.stack([(a * b).sum() for a, b in zip(gradients, main, strict=True)]).sum()
    square = torch.stack([b.square().sum() for b in main]).sum()
    share = product.clamp_max(0) / square.clamp_min(torch.finfo(square.dtype).tiny)
    return [a - share * b for a, b in zip(gradients, main)]

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.relation.blocks import by_rows


@register(name="vq_code_kl")
class VQCodeKL(nn.Module):
    r"""VQGraph: match the soft assignment of positions to the vectors of a codebook.

    $$ p(r) = \mathrm{softmax}_j \big( -\|r - e_j\| / \tau \big), \qquad
       L = \tau^2 \, \mathrm{mean}_i \, \mathrm{KL}\big( p(f^t_i) \,\|\, p(f^s_i) \big) $$

    in nats, with codes $e_1 \dots e_M$. At a high temperature L is near half the variance over the codes of
    $\|f^t_i - e_j\| - \|f^s_i - e_j\|$, whatever $\tau$. Turning student, teacher and codes together, or moving them,
    changes nothing. Distances are held in blocks of positions, and computed again in the backward pass.

    Args:
        codebook: $e_j$ `(M, C)`.
        tau: temperature.

    `forward`:
        student: features `(N, C, *)`; of another width they want a projection first.
        teacher: features `(N, C, *)`, in the space of the codes.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: the codebook is no matrix of at least one code, or its width is not that of the features.

    Paper: Yang et al., "VQGraph: Rethinking Graph Representation Space for Bridging GNNs and MLPs", ICLR 2024; factor
    1. The authors' code takes cosines on the teacher's side and distances on the student's, and hands probabilities to
    a divergence that expects their logarithms; here, both sides have one geometry.

    >>> loss = VQCodeKL([[0.0], [1.0]], tau=1.0)
    >>> loss(torch.tensor([[0.5]]), torch.tensor([[0.0]])).item()  # (1/2, 1/2) and (0.731, 0.269)
    0.1109...
    """

    codebook: Tensor

    def __init__(self, codebook: Tensor | Sequence[Sequence[float]], tau: float = 4.0) -> None:
        super().__init__()
        codebook = torch.as_tensor(codebook)
        if codebook.ndim != 2 or not len(codebook):
            raise ValueError(f"vq_code_kl: the codebook must be (M, C), at least one code, got {tuple(codebook.shape)}")
        self.register_buffer("codebook", codebook.detach().clone())
        self.tau = tau

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        codes, width = self.codebook.shape
        if student.shape[1] != width:
            raise ValueError(f"vq_code_kl: the codes have {width} channels, the features are {tuple(student.shape)}")
        s, t = (x.movedim(1, -1).flatten(0, -2) for x in (student, teacher))

        def divergence(s: Tensor, t: Tensor) -> Tensor:
            log_q, log_p = self._log_shares(s), self._log_shares(t)
            return (log_p.exp() * (log_p - log_q)).sum(-1)

        values = by_rows(divergence, s[None], t[None], columns=codes)[0]
        return self.tau**2 * weighted_mean(values, None if weight is None else weight.flatten())

    def _log_shares(self, rows: Tensor) -> Tensor:
        """Log of the share of each code, `(1, n, M)`, for rows `(1, n, C)`."""
        return (torch.cdist(rows, self.codebook.to(rows)[None]) / -self.tau).log_softmax(-1)

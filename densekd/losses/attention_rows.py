from __future__ import annotations

import torch
from torch import Tensor

from kdlosses.ground import readable
from kdlosses.registry import register


@register(match="samples")
def attention_rows(student: Tensor, teacher: Tensor, probabilities: bool = True) -> Tensor:
    r"""Match where each token looks: the divergence of the rows of attention, head by head.

    With $A_{hi}$ the row of head h for token i, its attention to all tokens,

    $$ L = \mathrm{mean}_{n,h,i} \, \mathrm{KL}(A^t_{nhi} \| A^s_{nhi}), $$

    over the first heads, as many as both sides have. It has the gradient of the cross-entropy between rows. The tokens
    of the two sides must be the same, so that they have equal patches. In HASTE it stands beside `cosine` on features,
    each in a policy `until`, which ends both before they hold the student back.

    Args:
        student: attention `(N, heads, rows, columns)`.
        teacher: likewise, of any number of heads.
        probabilities: whether rows are probabilities, as the outputs `attentions` of transformers are, and as a
            `MultiheadAttention` returns with `average_attn_weights=False`; else scores, before their softmax.

    Raises:
        ValueError: the sides differ in rows or columns, or a row of probabilities does not sum to 1.

    Paper: Wang et al., "REPA Works Until It Doesn't: Early-Stopped, Holistic Alignment Supercharges Diffusion
    Training", 2025 (there HASTE). Cross-entropy there, the teacher's entropy more; means over heads and rows: factor 1.

    >>> even, first = torch.full((1, 1, 1, 2), 0.5), torch.tensor([[[[1.0, 0.0]]]])
    >>> attention_rows(even, first).item()
    0.6931...
    """
    if student.shape[2:] != teacher.shape[2:]:
        raise ValueError(
            f"attention_rows: rows and columns must agree, got student {tuple(student.shape)} and teacher "
            f"{tuple(teacher.shape)}: the two sides need the same tokens"
        )
    heads = min(student.shape[1], teacher.shape[1])
    log_q, log_p = (_log_rows(x[:, :heads], probabilities) for x in (student, teacher))
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def _log_rows(attention: Tensor, probabilities: bool) -> Tensor:
    if not probabilities:
        return attention.log_softmax(-1)
    if readable(attention) and bool(((attention.detach().sum(-1) - 1).abs() > 1e-2).any()):
        raise ValueError(
            "attention_rows: a row of probabilities must sum to 1; of scores before their softmax say "
            "probabilities=False; dropout on attention must be off"
        )
    return attention.clamp_min(torch.finfo(attention.dtype).tiny).log()

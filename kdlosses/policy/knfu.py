from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kdlosses.experts import experts, mixture
from kdlosses.reduce import count
from kdlosses.registry import build, register


@register(name="knfu", match="positions", least={"nearest": 0}, over_classes=True)
class KnFu(nn.Module):
    r"""Any loss on logits towards the fused prediction of the peers most similar to the local model.

    $$ L = \ell(s, \log \sum_j a_j p_j), \quad a = \mathrm{softmax}_j(-D_j / \tau), \quad
       D_j = \sum_c m_c \, \mathrm{KL}\big(k_0[c] \,\|\, k_j[c]\big), $$

    $$ m_c = \frac{\sum_i w_i p_0(c | i)}{\sum_i w_i}, \quad
       k_j[c] = \frac{\sum_i w_i p_0(c | i) \, p_j(i)}{\sum_i w_i p_0(c | i)} $$

    over the r nearest peers. $k_j[c]$ is what peer j says on average where the local model 0 says c, in proportion to
    how much it says so. The local model is at distance 0 from itself and always among the peers. Peers that agree leave
    the target as it is; one whose classes are others gets next to no weight.

    For clients that learn in rounds see `graphkd.federate` and `densekd.federate`.

    This is our own form: the paper's was not found. The means are those of the positions of the call.

    Args:
        loss: what `kdlosses.build` takes: a loss between logits of the same shape.
        local: which of the teachers is the local model.
        nearest: r, how many peers besides the local model; all if not given.
        temperature: $\tau$ of the weights; towards 0 only the local model is left.

    `forward`:
        student: logits `(N, C, *)`.
        teacher: logits `(N, E C, *)` of all peers on shared positions, one after the other along axis 1.
        weight: `(N, *)`, positions to count.
        context: what the loss inside names.

    Raises:
        ValueError: `temperature` is not positive, or there is no such local model.

    Paper: Seyedmohammadi et al., "KnFu: Effective Knowledge Fusion", 2024. Factor 1.

    >>> loss, local = build("knfu"), torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    >>> loss(local, torch.cat([local, local.roll(1, dims=1)], dim=1)).item() < 1e-6  # the other calls them otherwise
    True
    """

    def __init__(self, loss: Any = "kl", local: int = 0, nearest: int | None = None, temperature: float = 0.1) -> None:
        super().__init__()
        self.loss = build(loss)
        self.local, self.nearest, self.temperature = local, nearest, temperature

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None, **context: Any) -> Tensor:
        each = experts(teacher, student.shape[1], "knfu")
        peers = each.shape[1]
        if not 0 <= self.local < peers:
            raise ValueError(f"knfu: local must be the index of a peer, 0 to {peers - 1}, got {self.local}")
        a = self.weights(each, weight)
        return self.loss(student, mixture(each, a), weight=weight, **context)

    def weights(self, each: Tensor, weight: Tensor | None = None) -> Tensor:
        """The weight of each peer `(E,)`, from the logits of all `(N, E, C, *)`."""
        p = each.softmax(2).movedim((1, 2), (-2, -1)).flatten(0, -3)  # (positions, E, C)
        local = p[:, self.local]
        if weight is not None:
            local = local * weight.flatten().to(p.dtype).unsqueeze(1)
        mass, tiny = local.sum(0), torch.finfo(p.dtype).tiny  # a class that the local model never names has no mass
        said = torch.einsum("nc,ned->ecd", local, p) / mass.clamp_min(tiny).reshape(1, -1, 1)
        log_said = said.clamp_min(tiny).log()
        row = (said[self.local] * (log_said[self.local] - log_said)).sum(2)
        distance = (row * mass).sum(1) / count(mass)
        if self.nearest is not None and self.nearest + 1 < len(distance):
            near = distance.topk(self.nearest + 1, largest=False).values[-1]
            distance = distance.masked_fill(distance > near, torch.inf)
        return (-distance / self.temperature).softmax(0)

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register

Numbers = Tensor | Sequence[Sequence[float]]


@register(match="positions")
class LELP(nn.Module):
    r"""Learning embedding linear projections: split the teacher's few classes into many by its embeddings.

    The embedding $h$ of the teacher, without what its classifier (W, b) sees of it, $\tilde h = h - W^+ W h$, has in
    each class c S principal directions; turned at random among themselves they are $v_{ck}$. With $\bar h_c$ the mean
    and $\sigma_c$ the root mean square of the projections of class c,

    $$ p_c = \mathrm{softmax}_c\Big(\frac{W h + b}{\tau}\Big), \quad
       r_{ck} = \mathrm{softmax}_k\Big(\frac{\langle v_{ck}, \tilde h - \bar h_c \rangle}{\sigma_c \tau_s}\Big), \quad
       L = - \tau^2 \, \mathrm{mean}_i \sum_{c,k} p_c r_{ck} \log q_{ck}, $$

    in nats, $q$ the softmax at $\tau$ of the student's $S C$ logits, class by class. With S = 1 it is the cross-entropy
    form of `kl`, and its least value is the entropy of the target. `class_logits` gives back C logits.

    Args:
        head_weight: W `(C, D)`.
        head_bias: b `(C,)`.
        embeddings: `(n, D)`, embeddings of the teacher over the training set, or a sample, to fit the directions to;
            they belong to the class that the classifier gives them. A class with at most S of them takes the
            directions of all.
        subclasses: S.
        tau: temperature of the classes.
        subclass_tau: $\tau_s$.
        seed: of the random turn; what was fitted stands in the checkpoint.

    `forward`:
        student: logits `(N, S C, *)`.
        teacher: embeddings `(N, D, *)`.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: shapes that do not fit, or fewer than S directions that the classifier does not see.

    Paper: Loo et al., "Linear Projections of Teacher Embeddings for Few-Class Distillation", 2024, for the steps;
    scaling by $\sigma_c$ is our own. Factor 1.

    >>> import torch
    >>> loss = LELP([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]], [0.0, 0.0], embeddings=torch.eye(3), subclasses=2)
    >>> loss(torch.zeros(5, 4), torch.randn(5, 3)).item()  # log(4): a student that does not know
    1.3862...
    """

    head_weight: Tensor
    head_bias: Tensor
    directions: Tensor
    offsets: Tensor

    def __init__(
        self,
        head_weight: Numbers,
        head_bias: Tensor | Sequence[float],
        embeddings: Numbers,
        subclasses: int,
        tau: float = 1.0,
        subclass_tau: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        w, b, h = (torch.as_tensor(x, dtype=torch.float64) for x in (head_weight, head_bias, embeddings))
        if w.ndim != 2 or b.shape != w.shape[:1] or h.ndim != 2 or h.shape[1] != w.shape[1]:
            raise ValueError(
                "lelp: expected head_weight (C, D), head_bias (C,) and embeddings (n, D), "
                f"got {tuple(w.shape)}, {tuple(b.shape)} and {tuple(h.shape)}"
            )
        unseen = torch.eye(w.shape[1], dtype=w.dtype) - torch.linalg.pinv(w) @ w
        free = round(unseen.trace().item())
        if not 1 <= subclasses <= min(free, len(h) - 1):
            raise ValueError(
                f"lelp: {subclasses} subclasses do not fit: the classifier leaves {free} directions of "
                f"{w.shape[1]}, and {len(h)} embeddings have at most {len(h) - 1}"
            )
        generator = torch.Generator().manual_seed(seed)
        owner, rest = (h @ w.T + b).argmax(1), h @ unseen
        directions, offsets = [], []
        for c in range(len(w)):
            own = rest[owner == c]
            own = own if len(own) > subclasses else rest
            mean = own.mean(0)
            principal = torch.linalg.svd(own - mean, full_matrices=False).Vh[:subclasses]
            turn = torch.linalg.qr(torch.randn(subclasses, subclasses, generator=generator, dtype=w.dtype)).Q
            scale = ((own - mean) @ principal.T).square().mean().sqrt()
            v = turn @ principal @ unseen / scale.clamp_min(torch.finfo(torch.float32).tiny)
            directions.append(v)
            offsets.append(v @ mean)
        for name, value in dict(head_weight=w, head_bias=b).items():
            self.register_buffer(name, value.float())
        self.register_buffer("directions", torch.cat(directions).float())  # (S C, D)
        self.register_buffer("offsets", torch.cat(offsets).float())  # (S C,)
        self.subclasses, self.tau, self.subclass_tau = subclasses, tau, subclass_tau

    def targets(self, teacher: Tensor) -> Tensor:
        """Probabilities of the subclasses, `(N, *, C, S)`, for embeddings `(N, D, *)`."""
        h = teacher.movedim(1, -1).contiguous()  # once for both products
        head, bias, directions, offsets = (
            part.to(h.dtype) for part in (self.head_weight, self.head_bias, self.directions, self.offsets)
        )
        p = ((h @ head.T + bias) / self.tau).softmax(-1)
        score = (h @ directions.T - offsets).unflatten(-1, (-1, self.subclasses))
        return p.unsqueeze(-1) * (score / self.subclass_tau).softmax(-1)

    def class_logits(self, student: Tensor) -> Tensor:
        """Logits `(N, C, *)` of the classes from those of the subclasses, `(N, S C, *)`."""
        return student.unflatten(1, (-1, self.subclasses)).logsumexp(2)

    def forward(self, student: Tensor, teacher: Tensor, weight: Tensor | None = None) -> Tensor:
        if student.shape[1] != len(self.offsets) or teacher.shape[1] != self.head_weight.shape[1]:
            raise ValueError(
                f"lelp: expected {len(self.offsets)} logits and embeddings of {self.head_weight.shape[1]} channels, "
                f"got {tuple(student.shape)} and {tuple(teacher.shape)}"
            )
        log_q = F.log_softmax((student / self.tau).movedim(1, -1), dim=-1)
        return -(self.tau**2) * weighted_mean((self.targets(teacher).flatten(-2) * log_q).sum(-1), weight)

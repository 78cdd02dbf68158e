from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from kdlosses.reduce import weighted_mean
from kdlosses.registry import register
from kdlosses.resized import resized


@register(match="positions", over_classes=False)
class LELP(nn.Module):
    r"""Learning embedding linear projections: split the teacher's few classes into many by its embeddings.

    The embedding $h$ of the teacher, without what its classifier W sees of it, $\tilde h = h - W^+ W h$, has in each
    class c S principal directions; turned at random among themselves they are $v_{ck}$. With $\bar h_c$ the mean and
    $\sigma_c$ the root mean square of the projections of class c,

    $$ p_c = \mathrm{softmax}_c\Big(\frac{z^t}{\tau}\Big), \quad
       r_{ck} = \mathrm{softmax}_k\Big(\frac{\langle v_{ck}, \tilde h - \bar h_c \rangle}{\sigma_c \tau_s}\Big), \quad
       L = - \tau^2 \, \mathrm{mean}_i \sum_{c,k} p_c r_{ck} \log q_{ck}, $$

    in nats, $q$ the softmax at $\tau$ of the student's $S C$ logits, class by class, those of
    `kdlosses.outputs.Subclasses`. With S = 1 it is the cross-entropy form of `kl`, and its least value is the entropy
    of the target.

    W is the linear map from embeddings to logits, but for what all classes share, by least squares. It and the
    directions are fitted to what the first `fit_steps` steps of training show, or to what `observe` is given before;
    until then the loss is 0. A compiled loss fits nothing: let some steps run before. A position belongs to the class
    that the teacher gives it; a class of at most S positions takes the directions of all.

    Args:
        student_channels: S C.
        teacher_channels: D, of an embedding.
        classes: C.
        tau: temperature of the classes.
        subclass_tau: $\tau_s$.
        fit_steps: steps of training that the directions are fitted to.
        seed: of the random turn; what was fitted stands in the checkpoint.

    `forward`:
        student: logits `(N, S C, *)`.
        teacher: embeddings `(N, D, *)`.
        teacher_logits: $z^t$ `(N, C, *)`; of a map at any size: bilinear interpolation.
        weight: `(N, *)`, positions to count.

    Raises:
        ValueError: the student's logits are no multiple of the classes, or there are fewer than S directions that the
            classifier does not see.

    Paper: Loo et al., "Linear Projections of Teacher Embeddings for Few-Class Distillation", 2024, for the steps;
    scaling by $\sigma_c$, and W by least squares for teachers of any kind, are our own. Factor 1.

    >>> loss = LELP(student_channels=4, teacher_channels=3, classes=2)
    >>> h = torch.randn(50, 3)
    >>> loss(torch.zeros(50, 4), h, teacher_logits=h[:, :2]).item()  # log(4): a student that does not know
    1.3862...
    """

    directions: Tensor
    offsets: Tensor
    fitted: Tensor

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        classes: int,
        tau: float = 1.0,
        subclass_tau: float = 1.0,
        fit_steps: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if student_channels % classes:
            raise ValueError(
                f"lelp: the student has {student_channels} logits, no multiple of {classes} classes: tap those of its "
                "subclasses, see kdlosses.outputs.Subclasses"
            )
        self.subclasses, free = student_channels // classes, teacher_channels - classes + 1
        if self.subclasses > free:
            raise ValueError(
                f"lelp: {self.subclasses} subclasses do not fit: a classifier of {classes} classes leaves {free} of "
                f"{teacher_channels} directions"
            )
        self.classes, self.tau, self.subclass_tau = classes, tau, subclass_tau
        self.fit_steps, self.seed, self.seen = fit_steps, seed, 0
        self._known = False  # that it is fitted: the buffer is on the device, where each look would wait
        self.moments: list[Tensor] | None = None
        self.register_buffer("directions", torch.zeros(student_channels, teacher_channels))
        self.register_buffer("offsets", torch.zeros(student_channels))
        self.register_buffer("fitted", torch.tensor(False))

    @torch.no_grad()
    def observe(self, teacher: Tensor, teacher_logits: Tensor, weight: Tensor | None = None) -> None:
        """Take in embeddings `(N, D, *)` and logits `(N, C, *)`; `fit` makes directions of all that was taken in."""
        z = resized("lelp", "teacher_logits", teacher_logits, teacher).movedim(1, -1).flatten(0, -2).double()
        h = teacher.movedim(1, -1).flatten(0, -2).double()
        w = torch.ones_like(h[:, 0]) if weight is None else weight.flatten().to(h)
        keep = (w > 0) & h.isfinite().all(1) & z.isfinite().all(1)
        h, z, w = h[keep], z[keep], w[keep]
        x = torch.cat([torch.ones_like(h[:, :1]), h], 1)
        own = F.one_hot(z.argmax(1), self.classes).to(h) * w[:, None]
        second = torch.stack([(x * own[:, c : c + 1]).T @ x for c in range(self.classes)])  # counts, sums, products
        found = [second, (x * w[:, None]).T @ z]
        self.moments = found if self.moments is None else [a + b for a, b in zip(self.moments, found)]
        self.seen += 1

    @torch.no_grad()
    def fit(self) -> bool:
        """Make the directions of what `observe` took in, in all processes; False where that was no position."""
        assert self.moments is not None
        if dist.is_available() and dist.is_initialized():
            for each in self.moments:
                dist.all_reduce(each)
        second, products = (each.cpu() for each in self.moments)
        self.moments, self.seen = None, 0
        if not second[:, 0, 0].any():
            return False
        head = torch.linalg.lstsq(second.sum(0), products, driver="gelsd").solution[1:].T  # (C, D)
        head = head - head.mean(0)
        unseen = torch.eye(head.shape[1]).to(head) - torch.linalg.pinv(head, rtol=1e-6) @ head
        generator, s = torch.Generator().manual_seed(self.seed), self.subclasses
        directions, offsets = [], []
        for moments in second:
            moments = moments if moments[0, 0] > s else second.sum(0)
            mean = moments[0, 1:] / moments[0, 0]
            spread = unseen @ (moments[1:, 1:] / moments[0, 0] - mean.outer(mean)) @ unseen
            values, vectors = torch.linalg.eigh((spread + spread.T) / 2)
            turn = torch.linalg.qr(torch.randn(s, s, generator=generator, dtype=head.dtype)).Q
            scale = values[-s:].clamp_min(0).mean().sqrt()
            least = spread.trace().clamp_min(0).sqrt() * 1e-6 + torch.finfo(torch.float32).tiny
            v = turn @ vectors[:, -s:].flip(1).T @ unseen / scale.clamp_min(least)
            directions.append(v)
            offsets.append(v @ mean)
        self.directions.copy_(torch.cat(directions))
        self.offsets.copy_(torch.cat(offsets))
        self.fitted.fill_(True)
        return True

    @property
    def _is_fitted(self) -> bool:
        self._known = self._known or bool(self.fitted)
        return self._known

    def targets(self, teacher: Tensor, teacher_logits: Tensor) -> Tensor:
        """Probabilities of the subclasses, `(N, *, C, S)`, for embeddings `(N, D, *)` and logits `(N, C, *)`."""
        h = teacher.movedim(1, -1)
        p = resized("lelp", "teacher_logits", teacher_logits.to(h.dtype), teacher).movedim(1, -1) / self.tau
        score = (h @ self.directions.T.to(h.dtype) - self.offsets.to(h.dtype)).unflatten(-1, (-1, self.subclasses))
        return p.softmax(-1).unsqueeze(-1) * (score / self.subclass_tau).softmax(-1)

    def forward(self, student: Tensor, teacher: Tensor, teacher_logits: Tensor, weight: Tensor | None = None) -> Tensor:
        if teacher_logits.shape[1] != self.classes:
            raise ValueError(
                f"lelp: expected teacher_logits of {self.classes} classes, got {tuple(teacher_logits.shape)}"
            )
        if not torch.compiler.is_compiling() and not self._is_fitted:
            if self.training:
                self.observe(teacher, teacher_logits, weight)
            if self.seen < self.fit_steps or not self.fit():
                return 0 * (student.sum() + teacher.sum())  # not a number where they are none
        log_q = F.log_softmax((student / self.tau).movedim(1, -1), dim=-1)
        target = self.targets(teacher, teacher_logits).flatten(-2)
        return -(self.tau**2) * weighted_mean((target * log_q).sum(-1), weight)

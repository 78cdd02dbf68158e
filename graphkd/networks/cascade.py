"""Students in a row, each built on the one before it, of which a node asks only as many as it needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from graphkd.networks.mlp import MLP, _linear
from graphkd.sparse.rows import Matrix, rows
from graphkd.spec import real


class Follower(MLP):
    """An `MLP` that also reads the last hidden layer of the one before it, and corrects its logits.

    Args:
        before: width of that layer.
        shape: see `MLP`.
    """

    def __init__(self, before: int, *shape: Any) -> None:
        super().__init__(*shape)
        self.carry = nn.Linear(before, self.widths[0], bias=False)

    def following(self, x: Tensor, hidden: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """The last hidden layer and the logits of rows `x`, from those of the student before it."""
        given = x.device
        carried = self.carry(hidden.to(self.device))
        layers = [*self.layers]
        first = _linear(layers[0], x.to(self.device)) + carried
        if len(layers) == 1:
            logits = logits + first.to(given)
            return logits, logits
        out = self.norms[0](first).relu()
        for layer, norm in zip(layers[1:-1], self.norms[1:]):
            out = norm(layer(self.dropout(out))).relu()
        return out.to(given), logits + layers[-1](self.dropout(out)).to(given)


class Cascade(nn.Module):
    r"""MLPs in a row; a node leaves after the first one that is sure enough of it.

    $$ z^1 = f_1(x), \qquad z^k = z^{k - 1} + f_k(x, h^{k - 1}), \qquad
       k(x) = \min \{ k : \max_c \mathrm{softmax}(z^k)_c \ge \theta \} \cup \{ K \} $$

    The prediction of a node is $z^{k(x)}$: what comes after its exit is not computed for it. $h^{k - 1}$ is the last
    hidden layer of the student before, or, without one, its logits. Exits count in evaluation alone. It starts with
    one member, which is the `MLP` of its arguments; `add` appends the next. Loading a state makes as many members as
    that holds, with its $\theta$.

    An exported model makes the same predictions. There all rows of a batch leave together: a student is asked if one of
    them is not sure, which for a single row is the same.

    Args:
        in_features: of each member; see `MLP`.
        hidden: likewise.
        classes: likewise.
        dropout: likewise.
        norm: likewise.
    """

    confidence: Tensor

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int] | int,
        classes: int,
        dropout: float = 0.0,
        norm: Literal["batch", "layer"] | None = None,
    ) -> None:
        super().__init__()
        first = MLP(in_features, hidden, classes, dropout, norm)
        self.shape = first.shape
        self.members = nn.ModuleList([first])
        self.register_buffer("confidence", torch.tensor(math.inf, dtype=torch.float64))
        self._theta = math.inf  # the same as a number, which an exporter can read

    def add(self) -> Follower:
        """Append a new member, and return it; it begins as no correction at all."""
        _, hidden, classes, *_ = self.shape
        member = Follower(hidden[-1] if hidden else classes, *self.shape)
        last = cast(nn.Linear, member.layers[-1])
        for weight in (last.weight, last.bias, *([] if hidden else [member.carry.weight])):
            nn.init.zeros_(weight)
        self.members.append(member.to(next(self.parameters())).train(self.training))
        return member

    def leave(self, *, confidence: float | None = None, budget: float | None = None, x: Matrix | None = None) -> None:
        r"""Choose where nodes leave, now and in a file that is saved after this.

        Features are as the network reads them: of a student with a scaler `student.scaler_.transform(X)`.

        Args:
            confidence: $\theta$, a probability; 0 asks the first student alone, None and no budget all of them.
            budget: in its place, how many students a node may ask in the mean over `x`, from 1 to all; $\theta$ lets as
                many ask as that allows.
            x: features `(N, F)` for the budget, such as will be asked about. No label is read.

        Raises:
            ValueError: both are given, one is out of range, or a budget has no features.

        >>> network, x = Cascade(2, (), 3), torch.eye(2)
        >>> _ = network.add()
        >>> network.leave(budget=1.5, x=x)
        >>> network.eval().exits(x).sort().values
        tensor([1, 2])
        """
        if confidence is not None and budget is not None:
            raise ValueError("a cascade leaves by a confidence or by a budget, not by both")
        if budget is None:
            theta = math.inf if confidence is None else real("confidence", confidence)
            if confidence is not None and theta > 1:
                raise ValueError(f"confidence is a probability, from 0 to 1, got {confidence!r}")
            self._leave_at(theta)
            return
        check_budget(budget, len(self.members))
        if x is None or not x.shape[0]:
            raise ValueError("a budget is met on features: pass x, such as will be asked about")
        sure = torch.stack([_sure(logits) for logits in self.all_logits(x)[:-1]] or [torch.zeros(0)])
        sure = sure.cummax(0).values.flatten().sort().values  # a node is still here while it was never as sure as theta
        asked = int((budget - 1) * x.shape[0] + 1e-9)
        if asked >= len(sure):
            return self._leave_at(math.inf)
        below = sure[sure < sure[asked]]
        self._leave_at((sure[asked].item() + (below[-1].item() if len(below) else 0.0)) / 2)  # on no node: it may round

    def _leave_at(self, theta: float) -> None:
        self._theta = theta
        self.confidence.fill_(theta)

    @torch.no_grad()
    def all_logits(self, x: Matrix) -> list[Tensor]:
        """Logits of every member on all rows, in evaluation mode, as if no node left; in parts."""
        training = self.training
        self.eval()
        like = next(self.parameters()).dtype
        parts = [
            [z for _, z in self._steps(rows(x, part).to(like))] for part in torch.arange(x.shape[0]).split(1 << 16)
        ]
        self.train(training)
        return [torch.cat(each) for each in zip(*parts)]

    @torch.no_grad()
    def exits(self, x: Matrix) -> Tensor:
        """How many students each row asks, `(N,)`, from 1."""
        found = torch.full((x.shape[0],), len(self.members))
        here = torch.ones(x.shape[0], dtype=torch.bool)
        for place, logits in enumerate(self.all_logits(x)[:-1]):
            leaves = here & (_sure(logits) >= self._theta)
            found[leaves] = place + 1
            here &= ~leaves
        return found

    def forward(self, x: Tensor) -> Tensor:
        if len(self.members) == 1:
            return self.members[0](x)
        if self.training or math.isinf(self._theta):
            return self._steps(x)[-1][1]
        return self._exported(x) if torch.compiler.is_compiling() else self._leaving(x)

    def last(self, x: Tensor) -> Tensor:
        """Logits of the last member; those before it are asked without a gradient."""
        if len(self.members) == 1:
            return self.members[0](x)
        with torch.no_grad():
            before = self._first(x)
            for member in self.members[1:-1]:
                before = cast(Follower, member).following(x, *before)
        return cast(Follower, self.members[-1]).following(x, *before)[1]

    def _first(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs = cast(MLP, self.members[0]).outputs(x)
        return outputs[-2] if len(outputs) > 1 else outputs[-1], outputs[-1]

    def _steps(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Last hidden layer and logits of each member, on all rows."""
        found = [self._first(x)]
        for member in self.members[1:]:
            found.append(cast(Follower, member).following(x, *found[-1]))
        return found

    def _leaving(self, x: Tensor) -> Tensor:
        """Logits, by asking each member about those rows alone that have not left before it."""
        hidden, logits = self._first(x)
        answer, here, now = logits.clone(), torch.arange(len(x), device=logits.device), x
        for member in self.members[1:]:
            stays = (_sure(logits) < self._theta).nonzero().flatten()
            if not len(stays):
                break
            here, hidden, logits, now = here[stays], hidden[stays], logits[stays], rows(now, stays)
            hidden, logits = cast(Follower, member).following(now, hidden, logits)
            answer[here] = logits
        return answer

    def _exported(self, x: Tensor) -> Tensor:
        """The same with a branch a member in place of rows that are picked, which no exported model can do."""
        hidden, logits = self._first(x)
        answer, left = logits, _sure(logits) >= self._theta
        for member in self.members[1:]:

            def ask(x: Tensor, hidden: Tensor, logits: Tensor, member: Any = member) -> tuple[Tensor, Tensor]:
                hidden, logits = member.following(x, hidden, logits)
                return hidden.clone(), logits  # which are one tensor where there is no hidden layer

            def skip(x: Tensor, hidden: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
                return hidden.clone(), logits.clone()

            hidden, logits = torch.cond(left.all(), skip, ask, (x, hidden, logits))
            answer = torch.where(left.unsqueeze(1), answer, logits)
            left = left | (_sure(logits) >= self._theta)
        return answer

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        held = {name.split(".")[1] for name in (key.removeprefix(prefix) for key in state_dict) if ".carry." in name}
        del self.members[1 + len(held) :]
        while len(self.members) < 1 + len(held):
            self.add()
        if prefix + "confidence" in state_dict:
            self._theta = float(state_dict[prefix + "confidence"])
        super()._load_from_state_dict(state_dict, prefix, *args)


def check_budget(budget: float, members: int) -> None:
    """Raise ValueError unless so many students a node can be asked of `members`."""
    if not 1 <= real("budget", budget) <= members:
        raise ValueError(f"budget is the mean number of students that a node asks, from 1 to {members}, got {budget!r}")


def _sure(logits: Tensor) -> Tensor:
    """The greatest probability of each row, `(N,)`, in double precision."""
    return logits.double().softmax(1).amax(1)

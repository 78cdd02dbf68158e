"""Heuristics that score pairs of nodes by the edges around them: common neighbours, paths and walks.

None of them is trained, and none reads a feature. Each may be the teacher of a student of links.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphkd.extras import needs_extra
from graphkd.links.pairs import once
from graphkd.sparse.edges import both_ways
from graphkd.spec import real, resolve, whole
from kdlosses.discover import check_free
from kdlosses.ground import Ground
from kdlosses.options import typed

HEURISTICS: dict[str, Callable[..., np.ndarray]] = {}
"""Every heuristic by its name: `heuristic(known, pairs, **options)`, pairs `(2, P)` to scores `(P,)`."""

_PAIRS = 1 << 14  # in one product of rows
_ENTRIES = 1 << 22  # of a block of rows of all nodes
_TABLE = 1 << 24  # of a table of all pairs that is kept: graphs of up to 4,096 nodes


class Known:
    """The edges that heuristics know of, in both directions, each once and without self-loops.

    Args:
        edges: `(2, E)`, in either direction or both.
        nodes: N.
    """

    def __init__(self, edges: Tensor, nodes: int) -> None:
        with needs_extra("graphkd.links.heuristics"):
            from scipy.sparse import csr_array
        row, column = both_ways(once(edges)).numpy()
        self.matrix = csr_array((np.ones(len(row), dtype=np.float32), (row, column)), shape=(nodes, nodes))
        self.nodes = nodes
        self.degree = np.diff(self.matrix.indptr)
        self._tables: dict[Any, np.ndarray] = {}

    def shared(self, pairs: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Sum of the weights `(N,)` of the nodes that are neighbours of both, `(P,)`."""
        found = np.empty(pairs.shape[1])
        for start in range(0, pairs.shape[1], _PAIRS):
            one, other = (self.matrix[ends] for ends in pairs[:, start : start + _PAIRS])
            found[start : start + _PAIRS] = one.multiply(other) @ weight
        return found

    def looked_up(self, key: Any, pairs: np.ndarray, rows_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Entries of a matrix `(N, N)` of which `rows_of` makes some rows; a small one is made once and kept."""
        if self.nodes**2 <= _TABLE:
            if key not in self._tables:
                every = np.arange(self.nodes)
                self._tables[key] = np.concatenate([rows_of(part) for part in self._blocks(every)])
            return self._tables[key][pairs[0], pairs[1]]
        found = np.empty(pairs.shape[1], dtype=np.float32)
        sources, place = np.unique(pairs[0], return_inverse=True)
        order, start = np.argsort(place, kind="stable"), 0
        for part in self._blocks(sources):
            mine = order[np.searchsorted(place[order], start) : np.searchsorted(place[order], start + len(part))]
            found[mine] = rows_of(part)[place[mine] - start, pairs[1, mine]]
            start += len(part)
        return found

    def distances(self, sources: np.ndarray, most: int, without: np.ndarray | None = None) -> np.ndarray:
        """Length of the shortest path from each source to every node, `(B, N)`; infinite where there is none so short.

        Args:
            sources: `(B,)`.
            most: the longest path looked for.
            without: `(B,)`, a neighbour of each source, to which the edge is left out.
        """
        near = self.matrix[sources].toarray() > 0
        every = np.arange(len(sources))
        if without is not None:
            near[every, without] = False  # no shortest path comes back to the source, and no other step takes the edge
        found = np.full(near.shape, np.inf, dtype=np.float32)
        for length in range(1, most + 1):
            found[near] = length
            found[every, sources] = 0
            if length < most and near.any():
                near = ((self.matrix @ near.T.astype(np.float32)).T > 0) & np.isinf(found)
        return found

    def _blocks(self, sources: np.ndarray) -> list[np.ndarray]:
        size = max(1, _ENTRIES // self.nodes)
        return [sources[start : start + size] for start in range(0, len(sources), size)]


def heuristic(function: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Register a heuristic under its name; raise ValueError if it is taken."""
    check_free("heuristic", function.__name__, HEURISTICS)
    HEURISTICS[function.__name__] = function
    return function


@heuristic
def common_neighbours(known: Known, pairs: np.ndarray) -> np.ndarray:
    r"""$|N(u) \cap N(v)|$. Newman, "Clustering and Preferential Attachment in Growing Networks", 2001."""
    return known.shared(pairs, np.ones(known.nodes))


@heuristic
def adamic_adar(known: Known, pairs: np.ndarray) -> np.ndarray:
    r"""$\sum_{w \in N(u) \cap N(v)} 1 / \log d_w$, a neighbour of degree 1 left out: only a node and itself share one.

    Adamic, Adar, "Friends and Neighbors on the Web", 2003.
    """
    return known.shared(pairs, np.where(known.degree > 1, 1 / np.log(np.maximum(known.degree, 2)), 0))


@heuristic
def resource_allocation(known: Known, pairs: np.ndarray) -> np.ndarray:
    r"""$\sum_{w \in N(u) \cap N(v)} 1 / d_w$. Zhou et al., "Predicting Missing Links via Local Information", 2009."""
    return known.shared(pairs, 1 / np.maximum(known.degree, 1))


@heuristic
def jaccard(known: Known, pairs: np.ndarray) -> np.ndarray:
    r"""$|N(u) \cap N(v)| \, / \, |N(u) \cup N(v)|$, and 0 where neither has a neighbour."""
    both = known.shared(pairs, np.ones(known.nodes))
    return both / np.maximum(known.degree[pairs].sum(0) - both, 1)


@heuristic
def preferential_attachment(known: Known, pairs: np.ndarray) -> np.ndarray:
    r"""$d_u d_v$. Barabási, Albert, "Emergence of Scaling in Random Networks", 1999."""
    return known.degree[pairs].prod(0, dtype=float)


@heuristic
def shortest_path(known: Known, pairs: np.ndarray, *, cap: int = 6, own: bool = True) -> np.ndarray:
    r"""$1 / d(u, v)$ up to a length of `cap`, and 1/999 where no path is so short; of a node and itself 1.

    With `own`, as published, an edge is a path of its own ends. A student is then told its training edges once more;
    without, the edge of a pair is left out for that pair.
    """
    whole("cap", cap, 1)

    def scores(sources: np.ndarray) -> np.ndarray:
        return _inverse(known.distances(sources, cap))

    found = known.looked_up(("shortest_path", cap), pairs, scores).astype(float)
    if not own:
        edges = np.asarray(known.matrix[pairs[0], pairs[1]]).ravel().nonzero()[0]
        for part in known._blocks(edges):
            one, other = pairs[:, part]
            found[part] = _inverse(known.distances(one, cap, without=other)[np.arange(len(part)), other])
    return found


@heuristic
def katz(known: Known, pairs: np.ndarray, *, beta: float = 0.005, length: int = 4) -> np.ndarray:
    r"""$\sum_{l=1}^{L} \beta^l (A^l)_{uv}$, walks of up to L steps. Katz, "A New Status Index", 1953."""
    real("beta", beta), whole("length", length, 1)

    def rows_of(sources: np.ndarray) -> np.ndarray:
        walks = known.matrix[sources].toarray() * np.float32(beta)
        total = walks.copy()
        for _ in range(length - 1):
            walks = (known.matrix @ walks.T).T * np.float32(beta)
            total += walks
        return total

    return known.looked_up(("katz", beta, length), pairs, rows_of)


@heuristic
def pagerank(known: Known, pairs: np.ndarray, *, restart: float = 0.15, steps: int = 10) -> np.ndarray:
    r"""$\pi_u(v) + \pi_v(u)$, how often walks from either end, which restart there, are at the other.

    $$ \pi_u = \sum_{l=0}^{L} r (1 - r)^l \, e_u (D^{-1} A)^l $$
    """
    real("restart", restart, 0, 1), whole("steps", steps, 1)
    share = (1 / np.maximum(known.degree, 1)).astype(np.float32)

    def rows_of(sources: np.ndarray) -> np.ndarray:
        walks = np.zeros((len(sources), known.nodes), dtype=np.float32)
        walks[np.arange(len(sources)), sources] = restart
        total = walks.copy()
        for _ in range(steps):
            walks = (known.matrix @ (walks * share).T).T * np.float32(1 - restart)
            total += walks
        return total

    key = "pagerank", restart, steps
    return known.looked_up(key, pairs, rows_of) + known.looked_up(key, pairs[::-1], rows_of)


def _inverse(distances: np.ndarray) -> np.ndarray:
    """See `shortest_path`."""
    with np.errstate(divide="ignore"):
        return np.where(np.isinf(distances), np.float32(1 / 999), 1 / np.maximum(distances, 1))


class Heuristic(nn.Module):
    """A heuristic over some edges, from pairs to scores, as a teacher of links is called; it has no parameters.

    Args:
        spec: name of one of `HEURISTICS`, or `dict(type=name, **options)`.
        edges: `(2, E)` that it knows of, in either direction or both.
        nodes: N.

    Shape: pairs `(2, *)` to scores `(*)`.

    Raises:
        KeyError: unknown name; names the nearest.
        TypeError: it has no such option.
        ValueError: an option is out of range, or a score is not finite.

    >>> square = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    >>> Heuristic("common_neighbours", square, 4)(torch.tensor([[0, 0], [1, 2]]))
    tensor([0., 2.])
    """

    def __init__(self, spec: str | Mapping[str, Any], edges: Tensor, nodes: int, known: Known | None = None) -> None:
        super().__init__()
        function, options = resolve("heuristic", spec, HEURISTICS)
        self.name = function.__name__
        options = typed(f"heuristic {self.name!r}: ", function, options, Ground())
        self._score = functools.partial(function, known or Known(edges, nodes), **options)
        self(torch.zeros(2, 1, dtype=torch.long))  # its options are checked

    def forward(self, pairs: Tensor) -> Tensor:
        with np.errstate(over="ignore", invalid="ignore"):
            found = np.asarray(self._score(pairs.flatten(1).numpy()), dtype=np.float32)
        if not np.isfinite(found).all():
            raise ValueError(f"heuristic {self.name!r} gives scores that are too large: lower its options")
        return torch.from_numpy(found).view(pairs.shape[1:])


def is_heuristic(spec: Any) -> bool:
    """Whether a teacher is named that is a heuristic.

    >>> is_heuristic("katz"), is_heuristic(dict(type="katz", beta=0.1)), is_heuristic("sage")
    (True, True, False)
    """
    kind = spec.get("type") if isinstance(spec, Mapping) else spec
    return isinstance(kind, str) and kind in HEURISTICS

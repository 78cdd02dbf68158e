"""Categorical fields of nodes as features, and a graph in which only pairs of them tell the class; no download."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from graphkd.extras import needs_extra


def multi_hot(ids: Any, sizes: Sequence[int]) -> Any:
    """One column for each value of each field, 1 where a node has it: a scipy CSR matrix `(N, sum of sizes)`.

    Args:
        ids: `(N, M)`, the value of each of M fields of a node, as whole numbers from 0; an array or a tensor.
        sizes: how many values each field has, counted on all data that will ever be asked about.

    Raises:
        ValueError: a value is negative, no whole number, or none that the field has; names node and field.

    >>> multi_hot([[0, 2], [1, 0]], sizes=[2, 3]).toarray().astype(int).tolist()
    [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0]]
    >>> multi_hot([[0, 3]], sizes=[2, 3])
    Traceback (most recent call last):
    ValueError: field 1 of node 0 has the value 3, which is unseen: the field has the values 0 to 2; count it in sizes
    """
    with needs_extra("graphkd.data.fields"):
        from scipy.sparse import csr_matrix
    found, counts = np.asarray(ids), np.asarray(sizes)
    if counts.ndim != 1 or counts.dtype.kind not in "iu" or not len(counts) or counts.min() < 1:
        raise ValueError(f"sizes are whole numbers from 1, one for each field, got {sizes!r}")
    if found.ndim != 2 or found.shape[1] != len(counts) or found.dtype.kind not in "iuf":
        raise ValueError(
            f"ids are numbers (N, {len(counts)}), a column for each of sizes; got {found.dtype} {found.shape}"
        )
    for wrong, why in (
        (~(found == np.round(found)), "which is no whole number: number the values of a field from 0"),
        (found < 0, "which is negative: give what is missing a value of its own"),
        (found >= counts, "which is unseen: the field has the values 0 to {last}; count it in sizes"),
    ):
        if wrong.any():
            node, field = np.argwhere(wrong)[0]
            told = why.format(last=counts[field] - 1)
            raise ValueError(f"field {field} of node {node} has the value {found[node, field]:g}, {told}")
    columns = found.astype(np.int64) + np.cumsum(counts) - counts
    begins = np.arange(len(found) + 1) * len(counts)
    ones = np.ones(columns.size, dtype=np.float32)
    return csr_matrix((ones, columns.ravel(), begins), shape=(len(found), int(counts.sum())))


def profiles(
    nodes: int = 1000,
    classes: int = 4,
    values: int = 8,
    fields: int = 4,
    friends: int = 3,
    homophily: float = 0.6,
    seed: int = 0,
) -> Any:
    r"""Nodes with categorical profiles, of which two fields together tell the class and no field alone says anything.

    Every value is drawn uniformly; the class is $(v_1 + v_2) \bmod C$. Each node has a few friends, of its own class
    with a fixed probability and of any class else.

    Args:
        nodes: how many.
        classes: C; `values` is a multiple of it.
        values: of each field.
        fields: of a profile, at least 2.
        friends: that a node chooses; edges count in both directions.
        homophily: share of the friends of the same class beyond chance.
        seed: of all that is drawn.

    Returns:
        what `Graph.of` takes; in a config it is `data = dict(type="graphkd.data.fields:profiles", nodes=1000)`.

    Raises:
        ValueError: an option is out of range.

    >>> data = profiles(nodes=50)
    >>> data.x.shape, len(set(data.y.tolist()))
    ((50, 32), 4)
    """
    if (
        min(nodes, friends) < 1
        or classes < 2
        or fields < 2
        or values % classes
        or values < 1
        or not 0 <= homophily <= 1
    ):
        raise ValueError(
            "profiles: nodes and friends are at least 1, classes and fields at least 2, values is a multiple of "
            f"classes, homophily from 0 to 1, got {nodes=}, {friends=}, {classes=}, {fields=}, {values=}, {homophily=}"
        )
    draw = np.random.default_rng(seed)
    ids = draw.integers(values, size=(nodes, fields))
    y = (ids[:, 0] + ids[:, 1]) % classes
    chooses = np.arange(nodes).repeat(friends)
    chosen = draw.integers(nodes, size=len(chooses))
    alike = draw.random(len(chooses)) < homophily
    for label in range(classes):
        wanted = np.flatnonzero(alike & (y[chooses] == label))
        chosen[wanted] = draw.choice(np.flatnonzero(y == label), len(wanted)) if len(wanted) else []
    apart = chooses != chosen
    edges = np.stack([chooses, chosen])[:, apart]
    edges = np.unique(np.concatenate([edges, edges[::-1]], 1), axis=1)
    return SimpleNamespace(x=multi_hot(ids, [values] * fields), edge_index=edges, y=y, num_classes=classes)

"""Frequent sets of items, by mlxtend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphkd.extras import needs_extra

KINDS = ("frequent", "closed", "maximal")
MOST = 1 << 17


def frequent_sets(
    transactions: Sequence[frozenset[int]], least: int, kind: str = "closed"
) -> list[tuple[tuple[int, ...], int]]:
    """Find the sets of items that stand together in at least `least` transactions, with the number of these.

    Args:
        transactions: the items of each.
        least: support, a number of transactions from 1.
        kind: `frequent`, all of these sets; `closed`, those of which no larger one has the same support; `maximal`,
            those of which no larger one is frequent.

    Returns:
        items in order, and support; the most frequent first, of equals the larger set.

    Raises:
        ValueError: there may be more than 131,072 of them before the closed ones are chosen.

    Paper: Han, Pei, Yin, "Mining Frequent Patterns without Candidate Generation", SIGMOD 2000 (FP-growth); Grahne, Zhu,
    "Efficiently Using Prefix-trees in Mining Frequent Itemsets", 2003 (FP-max).

    >>> frequent_sets([frozenset({1, 2}), frozenset({1, 2, 3}), frozenset({1})], 2)
    [((1,), 3), ((1, 2), 2)]
    """
    with needs_extra("finding frequent sets"):
        from mlxtend.frequent_patterns import fpgrowth, fpmax
        from pandas import DataFrame
    items = sorted({item for each in transactions for item in each})
    place = {item: column for column, item in enumerate(items)}
    table: np.ndarray = np.zeros((len(transactions), len(items)), dtype=bool)
    for row, each in enumerate(transactions):
        table[row, [place[item] for item in each]] = True
    support = table.sum(0)
    members = [[item] for item, count in zip(items, support) if count >= least]
    table = table[:, support >= least]
    if not members:
        return []
    if kind != "frequent":  # items that are always together are one
        table, group = np.unique(table, axis=1, return_inverse=True)
        joined: list[list[int]] = [[] for _ in range(table.shape[1])]
        for (item,), column in zip(members, group.reshape(-1)):
            joined[column].append(item)
        members = joined
    frame, share = DataFrame(table), (least - 0.5) / len(transactions)
    largest = fpmax(frame, share)
    if kind != "maximal":
        if (count := sum(1 << len(each) for each in largest["itemsets"])) > MOST:
            longest = max(len(each) for each in largest["itemsets"])
            raise ValueError(
                f"there may be {float(count):.1g} {kind} sets: {longest} items stand together {least} times; raise the "
                "threshold, or take sets='maximal'"
            )
        largest = fpgrowth(frame, share)
    found = {
        frozenset(columns): round(part * len(transactions))
        for columns, part in zip(largest["itemsets"], largest["support"])
    }
    if kind == "closed":
        found = {each: count for each, count in found.items() if not _wider(table, each, count)}
    named = [(tuple(sorted(item for column in each for item in members[column])), n) for each, n in found.items()]
    return sorted(named, key=lambda each: (-each[1], -len(each[0]), each[0]))


def _wider(table: np.ndarray, columns: frozenset[int], count: int) -> bool:
    """Whether another item stands in all transactions in which these do."""
    rows = table[:, sorted(columns)].all(1)
    return int((table[rows].sum(0) == count).sum()) > len(columns)

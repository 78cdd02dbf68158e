"""Students ranked, and searched, before any of them is trained."""

from __future__ import annotations

import itertools

import pytest

from graphkd import StudentClassifier, digits
from graphkd.pipeline.ranking import rank_students, search_students


def test_students_are_ranked_before_any_is_trained() -> None:
    graph, sage = digits(), dict(type="sage", epochs=40, hidden=48)
    candidates = [(4,), (8,), (16,), (128,), (8, 8), (64, 64)]
    student = StudentClassifier(epochs=40, dropout=0.0)
    mine = student.get_params()
    ranking = rank_students(graph, candidates, sage, seeds=[0], check=True, student=student)
    assert student.get_params() == mine  # a copy of it was trained
    assert ranking.tau is not None
    assert ranking.tau > 0.4
    assert ranking.size_tau is not None
    assert ranking.best in ((128,), (64, 64))
    again = rank_students(graph, candidates, sage, seeds=[0])
    assert again.score == ranking.score  # the seed decides, and training has no part in it
    assert again.accuracy is again.tau is None
    with pytest.raises(ValueError, match="at least two candidates"):
        rank_students(graph, [(4,)])


def test_the_search_finds_the_best_of_all_that_the_budget_allows() -> None:
    graph, widths, budget = digits(), (8, 16, 32, 64), 2_500
    every = [hidden for depth in range(4) for hidden in itertools.product(widths, repeat=depth)]
    sizes = {hidden: sum((a + 1) * b for a, b in itertools.pairwise([64, *hidden, 10])) for hidden in every}
    within = [hidden for hidden in every if sizes[hidden] <= budget]
    brute = rank_students(graph, within, seeds=[0])
    found = search_students(graph, widths=widths, budget=budget, seeds=[0], population=6, generations=4)
    assert len(set(found.hidden)) == len(found.hidden) <= 24 < len(within)
    assert found.best == brute.best
    assert max(found.parameters) <= budget < max(sizes.values())
    assert found.parameters == tuple(sizes[hidden] for hidden in found.hidden)
    assert dict(zip(found.hidden, found.score)).items() <= dict(zip(brute.hidden, brute.score)).items()
    more = search_students(graph, widths=widths, seeds=[0], population=6, generations=4)
    assert max(more.score) > max(found.score)
    with pytest.raises(ValueError, match="is allowed: widen the budget"):
        search_students(graph, budget=100, seeds=[0])
    with pytest.raises(ValueError, match="widths and layers count from 1"):
        search_students(graph, layers=0)

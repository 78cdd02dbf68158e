"""Students ranked before any of them is trained."""

from __future__ import annotations

import pytest

from graphkd import StudentClassifier, digits
from graphkd.pipeline.ranking import rank_students


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

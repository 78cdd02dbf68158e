"""Two processes share a sampled teacher, its cache and its students; a method that cannot be shared says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graphkd import Cache, Graph, StudentClassifier, digits, distill
from graphkd.data import sorted_undirected
from graphkd.recipes import ONE_PROCESS, RECIPES
from graphkd.sparse.edges import by_target
from graphkd.teachers import sage
from graphkd.teachers.layerwise import layerwise

TESTS = Path(__file__).parents[1]
TEACHER = dict(type="sage", layers=3, hidden=16, fanout=5, epochs=30, batch_size=64)
SCRIPT = f"""
import json, sys
import torch.distributed as dist
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(TESTS)!r}]
from test_sampled_processes import every_method, sampled
dist.init_process_group("gloo")
found = dict(sampled=sampled(sys.argv[1]), methods=every_method())
json.dump(found, open(f"{{sys.argv[1]}}/{{dist.get_rank()}}.json", "w"))
dist.barrier()
dist.destroy_process_group()
"""


def sampled(folder: str) -> dict[str, Any]:
    student = StudentClassifier((32,), 0.0, epochs=10, batch_size=256, lr=0.01)
    refused = ""
    try:
        distill(digits(), TEACHER, student=student, setting="tran", scale="sampled")
    except ValueError as error:
        refused = str(error)
    result = distill(digits(), TEACHER, student=student, setting="tran", scale="sampled", folder=f"{folder}/run")
    network = result.outcomes["teacher"]["tran"].model
    return {
        "refused": refused,
        "metrics": result.metrics,
        "weights": [weight.flatten().tolist() for weight in network.state_dict().values()],
        "student": result.student.predict_proba(digits().x[:50]).ravel().tolist(),
    }


def every_method() -> dict[str, Any]:
    """What each method's student says after two epochs, or why it is not trained."""
    from contract.entry import RecipeContract, entry_of
    from test_recipes import cached

    graph = digits().subgraph(torch.arange(400))
    teacher = cached(3 * torch.nn.functional.one_hot(graph.y.roll(1), 10).float())
    found: dict[str, Any] = {}
    for name in sorted(RECIPES):
        method = dict(type=name, **entry_of(RecipeContract, name).options) if name != "supervised" else name
        student = StudentClassifier((32,), 0.3, method, epochs=2, batch_size=150, random_state=0)
        try:
            student.fit(graph.x, graph.y, teacher=teacher, edge_index=graph.edge_index, labelled=np.arange(0, 400, 2))
        except ValueError as error:
            found[name] = str(error)
        else:
            found[name] = student.predict_proba(graph.x[:20]).ravel().tolist()
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(folder / "script.py"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_both_have_one_teacher_and_one_student(both: list[dict[str, Any]]) -> None:
    assert both[0]["sampled"] == both[1]["sampled"]
    accuracy = {role: found["tran"] for role, found in both[0]["sampled"]["metrics"].items()}
    assert accuracy["teacher"] > 0.85
    assert accuracy["student"] > 0.85
    assert "pass folder=, one that all of them see" in both[0]["sampled"]["refused"]


def test_the_cache_is_that_of_one_process(folder: Path, both: list[dict[str, Any]]) -> None:
    graph: Graph = sorted_undirected(digits())
    cache = Cache.load(folder / "run" / "tran", graph.fingerprint())
    assert [len(part) for part in cache.logits.parts] == [899, 898]  # type: ignore[attr-defined]
    assert not [*(folder / "run" / "tran").glob("layer-*")]  # what lay there meanwhile
    network = sage(64, 10, layers=3, hidden=16).eval()
    state = network.state_dict()
    weights = (torch.tensor(each).view_as(old) for each, old in zip(both[0]["sampled"]["weights"], state.values()))
    network.load_state_dict(dict(zip(state, weights)))
    one = torch.cat([part for _, part in layerwise(network, graph.x, *by_target(graph.edge_index, len(graph)))])
    np.testing.assert_allclose(np.asarray(cache.logits), one, atol=1e-5)


def test_each_method_ends_with_one_student_or_says_why_not(both: list[dict[str, Any]]) -> None:
    one, other = (found["methods"] for found in both)
    refused = {name for name, told in one.items() if isinstance(told, str)}
    assert refused == ONE_PROCESS
    for name in refused:
        assert f"the method {name!r}" in one[name]
        assert "2 processes cannot share" in one[name]
    for name in one.keys() - refused:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)

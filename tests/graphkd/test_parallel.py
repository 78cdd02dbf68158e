"""Two processes train the student that one trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graphkd import StudentClassifier, digits
from graphkd.training.parallel import backward, processes

METHODS = {
    "glnn": dict(method=dict(type="glnn", lam=0.3), batch_size=300),
    "uneven": dict(method="glnn", batch_size=359),  # five batches, of 180 and 179, and one of 2
    "one left over": dict(method="glnn", batch_size=898),  # the last batch is one node, for one process
    "all at once": dict(method=dict(type="glnn", lam=0.3), batch_size=None),
    "adagmlp": dict(method="adagmlp", batch_size=None),  # weights of nodes go on from step to step
    "ffg2m, low": dict(method=dict(type="ffg2m", lam=0.2, high=0.0), batch_size=300),
}
SCRIPT = f"""
import json, sys
import torch.distributed as dist
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_parallel import METHODS, trained
dist.init_process_group("gloo")
found = {{name: trained(**options) for name, options in METHODS.items()}}
found["dropout"] = trained(method="glnn", batch_size=300, dropout=0.5)
found["batch norm"] = trained(method="glnn", batch_size=300, norm="batch")
json.dump(found, open(f"{{sys.argv[1]}}/{{dist.get_rank()}}.json", "w"))
dist.destroy_process_group()
"""


def trained(**options: object) -> dict[str, list[float]]:
    graph = digits()
    teacher = 5 * torch.nn.functional.one_hot(graph.y.roll(1), 10).float()  # wrong, so that labels are another loss
    student = StudentClassifier((16,), epochs=4, patience=2, random_state=3, **{"dropout": 0.0, **options})  # type: ignore[arg-type]
    told = torch.arange(0, 1797, 9)
    student.fit(
        graph.x,
        graph.y,
        teacher=teacher,
        edge_index=graph.edge_index,
        labelled=told,
        validation=(graph.x[1::9], graph.y[1::9]),
    )
    history = student.history_
    return {
        "losses": history.losses,
        "chosen": [history.best_epoch, history.epochs],
        "predicted": student.predict_proba(graph.x[:20]).ravel().tolist(),
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, list[float]]]]:
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(folder / "script.py"), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_have_the_loss_curve_of_one(both: list[dict[str, dict[str, list[float]]]], name: str) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as there: sums in another order would differ more than processes do
    one, two = trained(**METHODS[name]), both[0][name]
    torch.set_num_threads(threads)
    assert len(set(one["losses"])) == len(one["losses"]) == one["chosen"][1]  # it moves
    np.testing.assert_allclose(two["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(two["predicted"], one["predicted"], atol=1e-4)
    assert two["chosen"] == one["chosen"]


def test_both_processes_end_with_one_student(both: list[dict[str, dict[str, list[float]]]]) -> None:
    assert both[0] == both[1]  # with dropout and batch normalisation too
    plain = trained(method="glnn", batch_size=300, dropout=0.5)
    np.testing.assert_allclose(both[0]["dropout"]["losses"], plain["losses"], rtol=0.1)  # other units, same size
    assert both[0]["dropout"]["losses"] != plain["losses"]


def test_one_process_does_what_autograd_does() -> None:
    model, x = torch.nn.Linear(3, 1), torch.randn(5, 3)
    assert processes() == (0, 1)
    value = backward(lambda nodes: model(x[nodes]).square().mean(), torch.tensor([0, 3]), 5, model)
    expected = torch.autograd.grad(model(x[[0, 3]]).square().mean(), list(model.parameters()))
    torch.testing.assert_close([parameter.grad for parameter in model.parameters()], list(expected))
    torch.testing.assert_close(value, model(x[[0, 3]]).square().mean().detach())

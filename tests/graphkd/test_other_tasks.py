"""Real data of other tasks, and the command on them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from graphkd.cli.distill import main
from graphkd.data import load

ROOT = Path(__file__).parents[2]


@pytest.mark.data
@pytest.mark.usefixtures("data_root")
@pytest.mark.parametrize(("name", "graphs"), [("MUTAG", 188), ("IMDB-BINARY", 1000)])
def test_sets_of_graphs_are_those_that_pyg_reads(name: str, graphs: int, tmp_path: Path) -> None:
    from torch_geometric.datasets import TUDataset

    graph = load(name.lower())
    assert len(graph) == graphs
    source = Path(os.environ["KD_DATA_ROOT"], "TUDataset", name)
    shutil.copytree(source, tmp_path / name)
    theirs, reads = TUDataset(str(tmp_path), name), graph.reads
    assert torch.equal(graph.y, torch.cat([each.y for each in theirs]))
    for place in (0, 7, graphs - 1):
        part = reads.take(torch.tensor([place]))  # type: ignore[union-attr]
        x, edges = part.arguments(torch.device("cpu"), torch.float32)[0]
        assert sorted(edges.T.tolist()) == sorted(theirs[place].edge_index.T.tolist())
        if theirs[place].x is not None:
            assert torch.equal(x, theirs[place].x)
        else:
            assert torch.equal(x.argmax(1), torch.bincount(edges[1], minlength=len(x)).clamp_max(63))


@pytest.mark.data
@pytest.mark.usefixtures("data_root")
def test_words_are_labels_or_features_and_never_both() -> None:
    cora, words = load("cora"), load("cora_words")
    dense = cora.x.to_dense()
    counts = (dense > 0).sum(0)
    assert words.y.sum(0).tolist() == sorted(counts.tolist(), reverse=True)[:20]
    assert torch.equal(words.x.to_dense().sum(1) + (words.y > 0).sum(1), (dense > 0).sum(1).float())


@pytest.mark.data
@pytest.mark.usefixtures("data_root")
def test_papers_and_words_have_the_edges_of_the_table() -> None:
    graph = load("cane_cora_words")
    reads = graph.reads
    papers, words = reads.x["paper"], reads.x["word"]  # type: ignore[union-attr]
    assert papers.shape == (len(graph), len(words))
    has = reads.edges["paper", "has", "word"]  # type: ignore[union-attr]
    assert torch.equal((has[0] * len(words) + has[1]).sort().values, papers.flatten().nonzero().flatten())


@pytest.mark.data
@pytest.mark.usefixtures("data_root")
def test_the_command_scores_as_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "own" / "mutag.py"
    config.parent.mkdir()
    config.write_text(
        f"_base_ = {str(ROOT / 'configs/tasks/proteins.py')!r}\ndata = 'mutag'\nsettings = ['tran']\n"
        "teacher = dict(epochs=3)\nstudent = dict(epochs=5)\nscoring = ['f1_macro', 'neg_log_loss']\n"
    )
    out = tmp_path / "log.json"
    main([str(config), "--seeds", "1", "--out", str(out), "--save", str(tmp_path / "students")])
    logs = json.loads(out.read_text())
    assert logs[2]["selection"].startswith("epoch by validation f1_macro")
    assert logs[2]["metrics"]["tran neg_log_loss"] < 0  # no share, and so not in per cent
    from graphkd import StudentClassifier
    from graphkd.data import split_of

    graph = load("mutag")
    test = split_of(graph, 0).test
    (file,) = (tmp_path / "students").iterdir()
    predicted = StudentClassifier.load(file).predict(graph.x[test])
    expected = 100 * f1_score(graph.y[test], predicted, average="macro")
    np.testing.assert_allclose(logs[2]["metrics"]["tran"], expected)
    with pytest.raises(SystemExit, match=r"no scoring is called 'f1_makro'; did you mean 'f1_macro'"):
        main(["--graph", "digits", "--scoring", "f1_makro"])

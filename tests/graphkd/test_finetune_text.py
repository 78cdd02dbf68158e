"""LoRA on a tiny causal model and a tiny encoder: they learn what training nodes say, and are read back as tuned."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from graphkd import Graph
from graphkd.cli import finetune as finetune_text
from graphkd.data import text_graph
from graphkd.text import LanguageModel, Prompts, embed, finetune
from graphkd.text.finetune import _answered
from graphkd.text.prompts import INSTRUCTION, Asker

WORDS = (["river", "bank", "flow"], ["stone", "quartz", "granite"])
LABELS = ["water body", "water free"]
PROMPTS = Prompts(hops=1, budget=40, neighbours=2)
ASKED = replace(INSTRUCTION, before="", between="\n", after="\nClass:", hops=1, budget=40, neighbours=2)
TRAIN = torch.arange(24)


@pytest.fixture(scope="module")
def graph() -> Graph:
    draw = np.random.default_rng(0)
    y = np.arange(60) % 2
    texts = [" ".join(draw.choice(WORDS[label], 4)) for label in y]
    ring = np.arange(60)
    return text_graph(texts, np.stack([ring, (ring + 2) % 60]), y, min_df=1)


@pytest.fixture
def causal(graph: Graph, save_model: Callable[..., Path], tmp_path: Path) -> LanguageModel:
    return LanguageModel.load(
        save_model(tmp_path / "causal", [*(graph.texts or ()), *LABELS, *[INSTRUCTION.before] * 20])
    )


def right(logits: np.ndarray, y: Tensor) -> float:
    return float((logits.argmax(1) == y.numpy())[24:].mean())


def test_a_causal_model_learns_to_answer_and_is_read_back(graph: Graph, causal: LanguageModel, tmp_path: Path) -> None:
    mark, before = causal.mark, embed(graph, causal, tmp_path / "before", ASKED, labels=LABELS)
    history = finetune(causal, graph, TRAIN, tmp_path / "tuned", ASKED, labels=LABELS, lr=0.01, epochs=12)
    after = embed(graph, causal, tmp_path / "after", ASKED, labels=LABELS)
    assert history.losses[-1] < 0.5 * history.losses[0]
    assert right(np.asarray(before.logits), graph.y) < 0.8
    assert right(np.asarray(after.logits), graph.y) > 0.95
    again = LanguageModel.load(tmp_path / "tuned")
    assert again.mark == causal.mark != mark
    read = embed(graph, again, tmp_path / "read", ASKED, labels=LABELS)
    np.testing.assert_allclose(np.asarray(read.logits), np.asarray(after.logits), atol=1e-3)
    with pytest.raises(ValueError, match="is of another language model"):
        embed(graph, causal, tmp_path / "before", ASKED, labels=LABELS)
    with pytest.raises(FileExistsError, match="tuned exists; choose another folder"):
        finetune(causal, graph, TRAIN, tmp_path / "tuned", ASKED, labels=LABELS)


def test_what_is_minimised_is_the_surprise_at_the_answer(graph: Graph, causal: LanguageModel) -> None:
    asker, answers = Asker(graph, causal, ASKED, spare=8), causal.answers(LABELS)
    pairs = [(asker.ask(node)[node % 2], answers[node % 2]) for node in range(5)]
    expected = []
    for prompt, answer in pairs:
        with torch.no_grad():
            log_p = causal.network(torch.tensor([[*prompt, *answer]])).logits[0].double().log_softmax(1)
        first = len(prompt) - 1
        expected.append(-np.mean([log_p[first + k, token].item() for k, token in enumerate(answer)]))
    with torch.no_grad():
        assert _answered(causal, causal.network, pairs).mean().item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_an_encoder_moves_the_classes_apart(graph: Graph, save_model: Callable[..., Path], tmp_path: Path) -> None:
    def apart(model: LanguageModel, name: str) -> float:
        """Between class means, over the spread within the classes, of nodes that were not trained on."""
        vectors = np.asarray(embed(graph, model, tmp_path / name, PROMPTS).hidden[1], dtype=np.float64)[24:]
        own = graph.y.numpy()[24:]
        means = np.stack([vectors[own == label].mean(0) for label in (0, 1)])
        return float(np.linalg.norm(means[0] - means[1]) / (vectors - means[own]).std(0).mean())

    model = LanguageModel.load(save_model(tmp_path / "encoder", list(graph.texts or ()), encoder=True))
    before = apart(model, "before")
    finetune(model, graph, TRAIN, tmp_path / "tuned", PROMPTS, lr=0.01, epochs=5)
    after = apart(model, "after")
    assert after > 1.5 * before
    assert apart(LanguageModel.load(tmp_path / "tuned"), "read") == pytest.approx(after, rel=1e-2)


def test_labels_of_other_nodes_are_not_read(graph: Graph, causal: LanguageModel, tmp_path: Path) -> None:
    blind = replace(graph, y=graph.y.clone().index_fill(0, torch.arange(24, 60), 0))
    folder = causal.network.config._name_or_path
    losses = [
        finetune(LanguageModel.load(folder), each, TRAIN, tmp_path / name, ASKED, labels=LABELS).losses
        for name, each in (("one", graph), ("two", blind))
    ]
    assert losses[0] == losses[1]


def test_what_cannot_be_tuned_on_is_refused(graph: Graph, causal: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fine-tuned on labels in words: 0 given, 2 classes"):
        finetune(causal, graph, TRAIN, tmp_path / "no", ASKED)
    silent = replace(graph, y=graph.y.clone().index_fill(0, torch.tensor([7]), -1))
    with pytest.raises(ValueError, match="node 7 has no label to fine-tune on"):
        finetune(causal, silent, TRAIN, tmp_path / "no", ASKED, labels=LABELS)


def test_a_mask_of_nodes_is_their_numbers_and_options_out_of_range_are_refused(
    graph: Graph, causal: LanguageModel, tmp_path: Path
) -> None:
    folder = causal.network.config._name_or_path
    few = torch.tensor([1, 4, 7])
    mask = torch.zeros(60, dtype=torch.bool).index_fill(0, few, True)
    losses = [
        finetune(LanguageModel.load(folder), graph, nodes, tmp_path / name, ASKED, labels=LABELS).losses
        for name, nodes in (("one", few), ("two", mask))
    ]
    assert losses[0] == losses[1]
    for nodes, message in (
        (mask[:50], r"a mask of the training nodes is \(60,\), got \(50,\)"),
        (torch.tensor([3, 60]), "there is no node 60"),
        (few[:0], "expected the numbers of the training nodes"),
        (few.float(), "expected the numbers of the training nodes"),
    ):
        with pytest.raises(ValueError, match=message):
            finetune(causal, graph, nodes, tmp_path / "no", ASKED, labels=LABELS)
    for wrong in (dict(rank=0), dict(epochs=0), dict(batch_size=0), dict(alpha=1.5)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            finetune(causal, graph, few, tmp_path / "no", ASKED, labels=LABELS, **wrong)  # type: ignore[arg-type]
    assert not (tmp_path / "no").exists()


def test_the_tool_tunes_on_the_split_of_a_table(
    graph: Graph, causal: LanguageModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": k, "text": text, "label": LABELS[k % 2], "split": ("train", "val", "test")[k % 3]}
        for k, text in enumerate(graph.texts or ())
    ]
    (tmp_path / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"source": a, "target": b} for a, b in graph.edge_index.T.tolist()]
    (tmp_path / "edges.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    folder = str(causal.network.config._name_or_path)
    options = [str(tmp_path / "nodes.jsonl"), "--edges", str(tmp_path / "edges.jsonl"), "--model", folder]
    options += ["--labels", ",".join(LABELS), "--budget", "110", "--out", str(tmp_path / "tuned"), "--epochs", "2"]
    finetune_text.main(options)
    assert capsys.readouterr().out.startswith("loss of each epoch: ")
    assert LanguageModel.load(tmp_path / "tuned").mark != causal.mark
    with pytest.raises(SystemExit, match="tuned exists; choose another folder"):
        finetune_text.main(options)


def test_the_old_name_works_for_one_more_version() -> None:
    with pytest.warns(DeprecationWarning, match=r"graphkd.text.tune is now graphkd.text.finetune.finetune"):
        from graphkd.text import tune
    assert tune is finetune

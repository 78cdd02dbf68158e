"""A small encoder aligned to a large one's vectors: the loss by hand, mixed retrieval, and what lies in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from graphkd import Cache, Graph
from graphkd.cli import finetune as finetune_text
from graphkd.data import read_texts, text_graph
from graphkd.text import LanguageModel, Prompts, align, embed

NODES, LEARNT = 48, 36
PROMPTS = Prompts(hops=1, budget=24, neighbours=1)


@pytest.fixture(scope="module")
def graph() -> Graph:
    draw = np.random.default_rng(0)
    words = ["river", "bank", "flow", "stone", "quartz", "granite", "gust", "wind"]
    texts = [" ".join(draw.permutation(words)[: draw.integers(2, 6)]) for _ in range(NODES)]
    ring = np.arange(NODES)
    return text_graph(texts, np.stack([ring, (ring + 1) % NODES]), ring % 2, min_df=1)


@pytest.fixture(scope="module")
def folders(graph: Graph, tmp_path_factory: pytest.TempPathFactory, save_model: Callable[..., Path]) -> dict[str, Path]:
    root, texts = tmp_path_factory.mktemp("models"), list(graph.texts or ())
    return {
        "large": save_model(root / "large", texts, encoder=True),
        "small": save_model(root / "small", texts, encoder=True, seed=1, width=24),
        "causal": save_model(root / "causal", texts),
    }


@pytest.fixture(scope="module")
def source(graph: Graph, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Cache:
    observed = np.arange(NODES) < LEARNT
    path = tmp_path_factory.mktemp("source") / "cache"
    return embed(graph, LanguageModel.load(folders["large"]), path, PROMPTS, observed=observed)


def unit(vectors: Any) -> np.ndarray:
    found = np.asarray(vectors, dtype=np.float64)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_the_loss_is_its_formula(graph: Graph, folders: dict[str, Path], source: Cache, tmp_path: Path) -> None:
    small = LanguageModel.load(folders["small"])
    before = embed(graph, small, tmp_path / "before", PROMPTS, observed=source.observed)
    for module in small.network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    history = align(small, graph, source, tmp_path / "out", PROMPTS, lr=0.0, epochs=1, batch_size=2 * LEARNT)
    layer = load_file(tmp_path / "out" / "2_Dense" / "model.safetensors")
    each = []
    for mine, theirs in zip(before.hidden, source.hidden):
        found = np.asarray(mine[:LEARNT], dtype=np.float64) @ layer["linear.weight"].T + layer["linear.bias"]
        each.append(((found - unit(theirs[:LEARNT])) ** 2).mean(1))
    assert history.losses[0] == pytest.approx(np.mean(each), rel=2e-3)


def test_its_vectors_find_the_large_one_s_and_are_read_back(
    graph: Graph, folders: dict[str, Path], source: Cache, tmp_path: Path
) -> None:
    def found(model: LanguageModel, name: str) -> tuple[np.ndarray, float]:
        """Vectors, and how often that of a text is nearest to the large model's of the same text."""
        vectors = np.asarray(embed(graph, model, tmp_path / name, PROMPTS).hidden[0], dtype=np.float64)
        nearest = (vectors[:LEARNT] @ unit(source.hidden[0][:LEARNT]).T).argmax(1)
        return vectors, float((nearest == np.arange(LEARNT)).mean())

    small = LanguageModel.load(folders["small"])
    history = align(small, graph, source, tmp_path / "out", PROMPTS, lr=3e-3, epochs=30)
    vectors, agreement = found(small, "after")
    assert history.losses[-1] < 0.3 * history.losses[0]
    assert agreement > 10 / LEARNT  # ten times what chance would find
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
    again = LanguageModel.load(tmp_path / "out")
    assert (again.width, again.unit, again.pool) == (32, True, "mean")
    np.testing.assert_allclose(found(again, "read")[0], vectors, atol=2e-3)
    assert again.mark == small.mark != LanguageModel.load(folders["small"]).mark
    large = unit(embed(graph, LanguageModel.load(folders["large"]), tmp_path / "large", PROMPTS).hidden[0])
    like = (vectors[LEARNT:] * large[LEARNT:]).sum(1)  # of texts that were not learnt from
    assert like.mean() > (vectors[LEARNT:] @ large[LEARNT:].T).mean()


def test_the_first_layers_are_a_smaller_model(folders: dict[str, Path]) -> None:
    whole, half = (LanguageModel.load(folders["large"], layers=layers) for layers in (None, 1))
    assert whole.mark != half.mark
    batch = whole.padded([[0, 5, 9, 1]])
    with torch.no_grad():
        inner = whole.network(**batch, output_hidden_states=True).hidden_states[1]
        torch.testing.assert_close(half.network(**batch).last_hidden_state, inner)
    with pytest.raises(ValueError, match="has 2 layers; layers must be from 1 to 2, got 3"):
        LanguageModel.load(folders["large"], layers=3)


def test_what_cannot_be_aligned_is_refused(
    graph: Graph, folders: dict[str, Path], source: Cache, tmp_path: Path
) -> None:
    small = LanguageModel.load(folders["small"])
    with pytest.raises(ValueError, match="must be a text encoder, not a causal language model"):
        align(LanguageModel.load(folders["causal"]), graph, source, tmp_path / "no")
    with pytest.raises(ValueError, match="the source has the hops 0 to 1, prompts up to 2"):
        align(small, graph, source, tmp_path / "no", Prompts(hops=2, budget=24))
    with pytest.raises(ValueError, match="the cache belongs to another graph"):
        align(small, replace(graph, y=1 - graph.y), source, tmp_path / "no")
    with pytest.raises(FileExistsError, match="choose another folder for the aligned model"):
        align(small, graph, source, tmp_path)
    assert not (tmp_path / "no").exists()


def test_the_tool_aligns(graph: Graph, folders: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    rows = [{"id": k, "text": text, "label": k % 2} for k, text in enumerate(graph.texts or ())]
    (tmp_path / "nodes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"source": a, "target": b} for a, b in graph.edge_index.T.tolist()]
    (tmp_path / "edges.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    large = LanguageModel.load(folders["large"])
    embed(read_texts(tmp_path / "nodes.jsonl", tmp_path / "edges.jsonl"), large, tmp_path / "cache", PROMPTS)
    options = [str(tmp_path / "nodes.jsonl"), "--edges", str(tmp_path / "edges.jsonl"), "--hops", "0", "--budget", "24"]
    options += ["--model", str(folders["large"]), "--layers", "1", "--align", str(tmp_path / "cache")]
    finetune_text.main([*options, "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.startswith("loss of each epoch: ")
    assert LanguageModel.load(tmp_path / "out").network.config.num_hidden_layers == 1

"""TAPE: explanations token by token, kept and read back; ranks as features; and networks on each, averaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax

from graphkd import Cache, Graph
from graphkd.cli import embed as embed_text
from graphkd.cli.distill import read_config, run_seed
from graphkd.data import Setting, cpf_split, make_setting, text_graph
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.text import LanguageModel, Prompts, embed, estimate, explanations
from graphkd.text.prompts import EXPLANATION, INSTRUCTION, Asker

ROOT = Path(__file__).parents[2]
NODES, TOKENS = 14, 6
LABELS = ["water", "rock"]
PROMPTS = replace(INSTRUCTION, before="", after=":", hops=0, budget=100)


@pytest.fixture(scope="module")
def graph() -> Graph:
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(["river", "quartz", "bank", "gust"], draw.integers(1, 9))) for _ in range(NODES)]
    ring = np.arange(NODES)
    return text_graph([*texts[:-1], texts[0]], np.stack([ring, np.roll(ring, 1)]), ring % 2, min_df=1)


@pytest.fixture(scope="module")
def folders(graph: Graph, tmp_path_factory: pytest.TempPathFactory, save_model: Callable[..., Path]) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    texts = [*(graph.texts or ()), *[EXPLANATION.before, EXPLANATION.after] * 20]
    return {
        "causal": save_model(root / "causal", texts),
        "encoder": save_model(root / "encoder", texts, encoder=True),
    }


@pytest.fixture(scope="module")
def causal(folders: dict[str, Path]) -> LanguageModel:
    return LanguageModel.load(folders["causal"])


@pytest.fixture(scope="module")
def told(graph: Graph, causal: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("told") / "cache"
    embed(graph, causal, path, PROMPTS, labels=LABELS, explain=TOKENS, shard=5, batch_tokens=400)
    return path


def test_explanations_are_the_likeliest_token_after_token(graph: Graph, causal: LanguageModel, told: Path) -> None:
    found = explanations(Cache.load(told))
    before = EXPLANATION.before.format(labels="water, rock")
    asker = Asker(graph, causal, replace(EXPLANATION, before=before, budget=PROMPTS.budget))
    for node in range(0, NODES, 3):
        tokens = asker.ask(node)[0]
        asked = len(tokens)
        for _ in range(TOKENS):
            with torch.no_grad():
                tokens = [*tokens, int(causal.network(torch.tensor([tokens])).logits[0, -1].argmax())]
            if tokens[-1] == causal.tokenizer.eos_token_id:
                break
        written = causal.tokenizer.decode(tokens[asked:], skip_special_tokens=True).strip().replace("\0", "")
        assert found[node] == written.encode()[: 8 * TOKENS].decode(errors="ignore")
    assert found[-1] == found[0]
    assert len(set(found)) > 2


def test_they_lie_on_disk_as_plain_bytes_and_gaps_are_filled(
    graph: Graph, causal: LanguageModel, told: Path, tmp_path: Path
) -> None:
    again = tmp_path / "cache"
    shutil.copytree(told, again)
    shutil.rmtree(again / "shard-000000000005")
    first = again / "shard-000000000000" / "more-explanation.npy"
    assert np.load(first, allow_pickle=False).dtype == f"S{8 * TOKENS}"
    stamp = first.stat().st_mtime_ns
    cache = embed(graph, causal, again, PROMPTS, labels=LABELS, explain=TOKENS, shard=5)
    assert first.stat().st_mtime_ns == stamp
    assert explanations(cache) == explanations(Cache.load(told))
    with pytest.raises(ValueError, match="is of another explain: 6 there, None here"):
        embed(graph, causal, again, PROMPTS, labels=LABELS)


def test_what_may_not_be_looked_at_is_not_explained(graph: Graph, causal: LanguageModel, tmp_path: Path) -> None:
    observed = np.arange(NODES) % 3 > 0
    cache = embed(graph, causal, tmp_path / "c", PROMPTS, labels=LABELS, explain=2, observed=observed)
    assert all(bool(text) <= seen for text, seen in zip(explanations(cache), observed))


def test_an_estimate_counts_what_is_to_be_written(graph: Graph, causal: LanguageModel, tmp_path: Path) -> None:
    plain, more = (estimate(graph, causal, tmp_path / "c", PROMPTS, labels=LABELS, explain=n) for n in (0, TOKENS))
    assert more.tokens > plain.tokens + NODES * TOKENS
    assert more.seconds > plain.seconds


def test_who_cannot_explain_is_told(graph: Graph, causal: LanguageModel, folders: Any, tmp_path: Path) -> None:
    encoder = LanguageModel.load(folders["encoder"])
    for model, labels in ((encoder, LABELS), (causal, [])):
        with pytest.raises(ValueError, match="written by a causal language model, about labels in words"):
            embed(graph, model, tmp_path / "c", PROMPTS, labels=labels, explain=3)
    plain = embed(graph, encoder, tmp_path / "plain", Prompts(hops=0, budget=40))
    with pytest.raises(ValueError, match=r"no explanations: write it with graphkd\.text\.embed"):
        explanations(plain)


def test_the_tool_writes_explanations_and_reads_them_in_place_of_texts(
    graph: Graph, folders: dict[str, Path], tmp_path: Path
) -> None:
    nodes, edges = tmp_path / "nodes.csv", tmp_path / "edges.csv"
    rows = [f"{k},{text},{k % 2}" for k, text in enumerate(graph.texts or ())]
    nodes.write_text("\n".join(["id,text,label", *rows]))
    edges.write_text("\n".join(["source,target", *(f"{a},{b}" for a, b in graph.edge_index.T.tolist())]))
    shared = [str(nodes), "--edges", str(edges), "--hops", "0"]
    causal = ["--model", str(folders["causal"]), "--labels", "water,rock", "--explain", "5", "--budget", "112"]
    embed_text.main([*shared, *causal, "--out", str(tmp_path / "told")])
    encoder = ["--model", str(folders["encoder"]), "--budget", "40"]
    embed_text.main([*shared, *encoder, "--explanations", str(tmp_path / "told"), "--out", str(tmp_path / "read")])
    written = explanations(Cache.load(tmp_path / "told"))
    other = replace(graph, texts=tuple(written))
    expected = embed(other, LanguageModel.load(folders["encoder"]), tmp_path / "own", Prompts(hops=0, budget=40))
    read = Cache.load(tmp_path / "read")
    assert np.array_equal(np.asarray(read.hidden[0]), np.asarray(expected.hidden[0]))
    with pytest.raises(SystemExit, match="the cache holds no explanations"):
        embed_text.main([*shared, *encoder, "--explanations", str(tmp_path / "read"), "--out", str(tmp_path / "no")])


@pytest.fixture(scope="module")
def sets(papers: Graph) -> tuple[Setting, Cache, Cache]:
    """Papers, and two sources that know their topics, with errors of their own."""
    draw = np.random.default_rng(3)
    known, count = np.eye(4)[papers.y.numpy()], len(papers)
    caches = []
    for spread in (0.8, 1.0):
        words = (known @ draw.normal(size=(4, 10)) + 2 * draw.normal(size=(count, 10))).astype(np.float16)
        scores = (2 * known + 2 * spread * draw.normal(size=(count, 4))).astype(np.float32)
        nodes, seen = np.arange(count), np.ones(count, dtype=bool)
        caches.append(Cache(scores, nodes, seen, papers.fingerprint(), (words,)))
    return make_setting(papers, cpf_split(papers.y, 0), "tran", 0), caches[0], caches[1]


def test_ranks_are_features(sets: tuple[Setting, Cache, Cache]) -> None:
    setting, source, _ = sets
    outcome = train_teacher(setting, dict(type="sgc", hops=0, epochs=2, source=source, inputs=dict(top=3)))
    assert outcome.x is not None
    expected = np.zeros((len(source.logits), 12))
    for node, row in enumerate(np.argsort(-source.logits, axis=1)[:, :3]):
        expected[node, row + np.array([0, 4, 8])] = 1
    assert np.array_equal(outcome.x.numpy(), expected)


def test_networks_on_each_are_averaged_and_better_so(sets: tuple[Setting, Cache, Cache]) -> None:
    setting, one, two = sets
    spec = dict(type="hopwise", hidden=32, epochs=25)
    specs = [
        {**spec, "source": one, "inputs": 0},
        {**spec, "source": two, "inputs": 0},
        {**spec, "layers": 0, "source": two, "inputs": dict(top=2)},  # an MLP
        spec,
    ]
    whole = train_teacher(setting, specs)
    assert whole.cache is not None
    parts = whole.cache.split()
    test = setting.test.numpy()
    mean = sum(softmax(part.logits[test], axis=1) for part in parts).argmax(1)
    y = setting.whole.y.numpy()[test]
    assert whole.metrics["tran"] == pytest.approx((mean == y).mean())
    assert whole.metrics["tran"] > max((part.logits[test].argmax(1) == y).mean() for part in parts)
    assert whole.x is not None
    assert whole.x.shape[1] == 10 + 10 + 8 + setting.whole.x.shape[1]
    with torch.no_grad():
        again = whole.model(whole.x, setting.whole.edge_index)
    np.testing.assert_allclose(again.numpy(), whole.cache.logits, atol=1e-4)


@pytest.mark.parametrize("inputs", [dict(top=5), dict(top=0), dict(first=2)])
def test_ranks_that_are_not_there_are_refused(sets: tuple[Setting, Cache, Cache], inputs: dict[str, int]) -> None:
    setting, source, _ = sets
    with pytest.raises(
        ValueError, match=r"inputs is dict\(top=k\) with k from 1 to the 4 classes that the source scores"
    ):
        train_teacher(setting, dict(type="sgc", source=source, inputs=inputs))


def test_it_is_one_config(sets: tuple[Setting, Cache, Cache], papers: Graph, tmp_path: Path) -> None:
    sets[1].save(tmp_path / "cache")
    path = tmp_path / "papers.py"
    source = f"source={str(tmp_path / 'cache')!r}"
    path.write_text(
        f"_base_ = {str(ROOT / 'configs/_base_/graph.py')!r}\ndata = 'digits'\nsettings = ['tran']\n"
        f"teacher = [dict(type='sgc', epochs=3, {source}, inputs=0),\n"
        f"           dict(type='sgc', epochs=3, {source}, inputs=dict(top=2))]\n"
        "student = dict(hidden=[16], epochs=3)\nmethods = [dict(type='glnn')]\n"
    )
    logs = run_seed(papers, read_config(path), "papers", 0, lambda: None)
    assert logs[0]["method"] == "sgc on hidden 0 + sgc on top 2"
    assert all(log["latency_ms"]["all_nodes"] > 0 for log in logs)


def test_the_configs_of_tape_are_read() -> None:
    for path in (ROOT / "configs/graph").glob("tape*/*.py"):
        config = read_config(path)
        assert len(config["teacher"]) in (2, 3)
        assert config["teacher"][-1]["inputs"] == dict(top=3)

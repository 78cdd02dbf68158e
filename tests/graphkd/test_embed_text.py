"""Language models read text graphs: prompts, vectors and label scores by brute force, the cache, bad input."""

from __future__ import annotations

import dataclasses
import importlib
import json
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmark_text
import embed_sentences
import numpy as np
import pytest
import torch

from densekd.bev.texts import sentences
from densekd.texts import TextTable, write
from graphkd import Cache, Graph
from graphkd.cli import embed as embed_text
from graphkd.data import text_graph
from graphkd.text import LanguageModel, Prompts, align, embed, estimate, finetune, overhead
from graphkd.text.embed import by_length
from graphkd.text.prompts import INSTRUCTION, Asker

NODES = 40
WORDS = [
    "river",
    "stone",
    "wind",
    "granite",
    "flows",
    "bank",
    "quartz",
    "gust",
    "breeze",
    "河川",
    "Ströme",
    "ветер",
    "🪨",
]
LABELS = ["rule learning", "rule mining", "rule"]  # they share a first token, and one is the beginning of the others


def texts() -> list[str]:
    draw = np.random.default_rng(0)
    found = [" ".join(draw.choice(WORDS, draw.integers(1, 12))) for _ in range(NODES)]
    found[3], found[5], found[8] = "", "word " * 500, "a\u0000b \u202e \U0001f9ea"
    return found


@pytest.fixture(scope="module")
def graph() -> Graph:
    """A ring with a few chords; the last two nodes are alone."""
    ring = np.arange(NODES - 2)
    edges = np.concatenate([np.stack([ring, np.roll(ring, 1)]), [[0, 0, 0, 7], [10, 20, 30, 21]]], axis=1)
    return text_graph(texts(), edges, torch.arange(NODES) % 3, min_df=1)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, save_model: Callable[..., Path]) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "causal": save_model(root / "causal", [*texts(), *LABELS]),
        "encoder": save_model(root / "encoder", texts(), encoder=True),
        "other": save_model(root / "other", texts(), encoder=True, seed=1),
    }


@pytest.fixture(scope="module")
def causal(folders: dict[str, Path]) -> LanguageModel:
    return LanguageModel.load(folders["causal"])


@pytest.fixture(scope="module")
def encoder(folders: dict[str, Path]) -> LanguageModel:
    return LanguageModel.load(folders["encoder"])


PROMPTS = Prompts(budget=60, neighbours=3)
INSTRUCTED = replace(INSTRUCTION, before="Class of:\n", between="\n- ", budget=60, neighbours=3)


def test_a_model_tells_what_it_is(causal: LanguageModel, encoder: LanguageModel) -> None:
    assert (causal.causal, causal.pool, causal.wrap) == (True, "last", ([0], []))
    assert (encoder.causal, encoder.pool, encoder.wrap) == (False, "mean", ([0], [1]))
    assert (causal.width, causal.context) == (32, 128)


def test_prompts_keep_to_the_budget_and_reach_as_far_as_they_say(graph: Graph, encoder: LanguageModel) -> None:
    def distances(node: int) -> dict[int, int]:
        found, frontier = {node: 0}, [node]
        for hop in range(1, 4):
            near = {int(a) for a, b in graph.edge_index.T.tolist() if b in frontier}
            frontier = [each for each in near if each not in found]
            found |= dict.fromkeys(frontier, hop)
        return found

    # every node is its own word here, so that a prompt tells whom it names
    named = replace(graph, texts=tuple(chr(0x4E00 + node) for node in range(NODES)))
    asker = Asker(named, encoder, Prompts(hops=3, budget=100, neighbours=2, between=","))
    own = {node: encoder.tokenizer.decode(asker._text(node)) for node in range(NODES)}
    for node in range(NODES):
        far = distances(node)
        asked = [encoder.tokenizer.decode(prompt, skip_special_tokens=True) for prompt in asker.ask(node)]
        assert asked[0] == own[node]
        for hop, prompt in enumerate(asked):
            told = prompt.split(",")
            assert told[0] == own[node]
            assert len(set(told)) == len(told)
            reached = [far[next(each for each in own if own[each] == name)] for name in told]
            assert max(reached) <= hop
            assert all(reached.count(at) == min(2, sum(d == at for d in far.values())) for at in (1,)[:hop])
            assert prompt.startswith(asked[max(0, hop - 1)])
    asker = Asker(graph, encoder, PROMPTS)
    lengths = [len(prompt) for node in range(NODES) for prompt in asker.ask(node)]
    assert max(lengths) == 60
    assert min(lengths) == 2  # of the node without a text and a neighbour, or nothing but what wraps it


def test_the_sample_of_neighbours_is_that_of_the_seed(graph: Graph, encoder: LanguageModel) -> None:
    one, same, other = (Asker(graph, encoder, replace(PROMPTS, neighbours=1, seed=seed)).ask(0) for seed in (0, 0, 1))
    assert one == same
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_what_may_not_be_looked_at_is_in_no_prompt(graph: Graph, encoder: LanguageModel, tmp_path: Path) -> None:
    observed = np.arange(NODES) % 4 > 0
    hidden = replace(graph, texts=tuple(t if o else "hidden" for t, o in zip(graph.texts or (), observed)))
    one, two = (
        embed(each, encoder, tmp_path / name, PROMPTS, observed=observed)
        for name, each in (("one", graph), ("two", hidden))
    )
    for hop in range(3):
        assert np.isnan(one.hidden[hop][~observed]).all()
        assert np.array_equal(one.hidden[hop][observed], two.hidden[hop][observed])


def test_vectors_of_an_encoder_are_those_of_one_prompt_at_a_time(
    graph: Graph, encoder: LanguageModel, tmp_path: Path
) -> None:
    cache = embed(graph, encoder, tmp_path / "c", PROMPTS, shard=16, batch_tokens=150)
    asker = Asker(graph, encoder, PROMPTS)
    for node in range(NODES):
        for hop, prompt in enumerate(asker.ask(node)):
            with torch.no_grad():
                expected = encoder.network(torch.tensor([prompt])).last_hidden_state[0].mean(0)
            np.testing.assert_allclose(cache.hidden[hop][[node]][0], expected.numpy(), atol=2e-3)
    assert cache.logits.shape == (NODES, 0)
    assert cache.hidden[1].dtype == np.float16


def test_a_causal_model_is_read_at_its_last_token_and_scores_whole_labels(
    graph: Graph, causal: LanguageModel, tmp_path: Path
) -> None:
    cache = embed(graph, causal, tmp_path / "c", INSTRUCTED, labels=LABELS, batch_tokens=300)
    asker = Asker(graph, causal, INSTRUCTED)
    answers = [[*causal.tokenizer(f" {label}", add_special_tokens=False)["input_ids"], 1] for label in LABELS]
    assert answers[0][0] == answers[1][0] == answers[2][0]
    for node in range(0, NODES, 3):
        asked = asker.ask(node)
        with torch.no_grad():
            for hop, prompt in enumerate(asked):
                expected = causal.network.model(torch.tensor([prompt])).last_hidden_state[0, -1]
                np.testing.assert_allclose(cache.hidden[hop][[node]][0], expected.numpy(), atol=2e-3)
            for label, answer in enumerate(answers):
                log_p = causal.network(torch.tensor([[*asked[-1], *answer]])).logits[0].double().log_softmax(1)
                first = len(asked[-1]) - 1
                score = sum(log_p[first + place, token].item() for place, token in enumerate(answer))
                assert cache.logits[[node], label].item() == pytest.approx(score, abs=1e-3)


def test_labels_are_refused_where_they_cannot_be_told_apart_or_scored(
    graph: Graph, causal: LanguageModel, encoder: LanguageModel, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="the labels 'rule' and ' rule ' are the same tokens"):
        embed(graph, causal, tmp_path / "c", INSTRUCTED, labels=["rule", "mining", " rule "])
    with pytest.raises(ValueError, match="there are 2 labels for 3 classes"):
        embed(graph, causal, tmp_path / "c", INSTRUCTED, labels=["a", "b"])
    with pytest.raises(ValueError, match="the labels 'rule' and ' rule ' are the same tokens"):
        embed(graph, encoder, tmp_path / "c", PROMPTS, labels=["rule", "mining", " rule "])
    with pytest.raises(ValueError, match="only a causal language model has answers; use"):
        encoder.answers(LABELS)


def test_an_encoder_scores_labels_by_their_cosine(graph: Graph, encoder: LanguageModel, tmp_path: Path) -> None:
    cache = embed(graph, encoder, tmp_path / "c", PROMPTS, labels=LABELS, shard=16)
    for label, word in enumerate(LABELS):
        with torch.no_grad():
            hidden = encoder.network(**encoder.tokenizer(word, return_tensors="pt")).last_hidden_state[0].mean(0)
        name, read = hidden.double().numpy(), np.asarray(cache.hidden[2], dtype=np.float64)
        cosine = read @ name / np.linalg.norm(read, axis=1) / np.linalg.norm(name)
        np.testing.assert_allclose(np.asarray(cache.logits)[:, label], cosine / 0.05, atol=1e-3)


def test_a_budget_that_does_not_fit_is_refused(graph: Graph, causal: LanguageModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"prompts of 126 tokens and answers of \d+ are more than the 128"):
        embed(graph, causal, tmp_path / "c", replace(INSTRUCTED, budget=126), labels=LABELS)
    with pytest.raises(ValueError, match="a budget of 20 tokens leaves"):
        embed(graph, causal, tmp_path / "c", replace(INSTRUCTION, budget=20))
    with pytest.raises(ValueError, match="the graph has no texts"):
        embed(replace(graph, texts=None), causal, tmp_path / "c")


def test_the_cache_holds_two_bytes_a_number_and_headers(graph: Graph, encoder: LanguageModel, tmp_path: Path) -> None:
    embed(graph, encoder, tmp_path / "c", PROMPTS, shard=16)
    size = sum(file.stat().st_size for file in (tmp_path / "c").rglob("*") if file.is_file())
    shards, files, meta = 3, 6, 2048
    headers = shards * (files * 128 + meta) + NODES * 9  # who the node is, and whether it was seen
    assert 0 <= size - NODES * 3 * 32 * 2 <= headers


def test_gaps_are_filled_whatever_the_size_of_shards(graph: Graph, encoder: LanguageModel, tmp_path: Path) -> None:
    whole = embed(graph, encoder, tmp_path / "whole", PROMPTS)
    embed(graph, encoder, tmp_path / "c", PROMPTS, shard=9)
    for start in (0, 18, 27):
        shutil.rmtree(tmp_path / "c" / f"shard-{start:012d}")
    told: list[int] = []
    again = embed(graph, encoder, tmp_path / "c", PROMPTS, shard=7, progress=told.append)
    assert told == [13, 7, 2, 7, 7, 4]
    assert np.array_equal(np.asarray(again.node_id), np.arange(NODES))
    np.testing.assert_allclose(np.asarray(again.hidden[2]), np.asarray(whole.hidden[2]), atol=2e-3)


def test_every_prompt_is_read_once_with_little_padding(graph: Graph, encoder: LanguageModel, tmp_path: Path) -> None:
    passes: list[tuple[int, int]] = []
    hook = encoder.network.register_forward_pre_hook(
        lambda _, __, given: passes.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    embed(graph, encoder, tmp_path / "c", PROMPTS, batch_tokens=512)
    hook.remove()
    asker = Asker(graph, encoder, PROMPTS)
    different = {tuple(prompt) for node in range(NODES) for prompt in asker.ask(node)}
    assert sum(rows for rows, _ in passes) == len(different) < 3 * NODES
    assert passes == [
        (len(batch), max(2, *(len(sorted(different, key=lambda p: -len(p))[at]) for at in batch)))
        for batch in by_length(sorted(different, key=lambda p: -len(p)), 512)
    ]
    assert sum(rows * longest for rows, longest in passes) < 1.2 * sum(map(len, different))


def test_the_estimate_knows_prompts_tokens_and_bytes(graph: Graph, encoder: LanguageModel, tmp_path: Path) -> None:
    asker = Asker(graph, encoder, PROMPTS)
    tokens = sum(len(prompt) for node in range(NODES) for prompt in asker.ask(node))
    found = estimate(graph, encoder, tmp_path / "c", PROMPTS)
    assert (found.prompts, found.tokens, found.bytes) == (3 * NODES, tokens, NODES * 3 * 32 * 2)
    inside = (
        sum(p.numel() for p in encoder.network.parameters()) - encoder.network.embeddings.word_embeddings.weight.numel()
    )
    assert found.flops == 2 * inside * tokens
    assert "120 prompts" in str(found)
    embed(graph, encoder, tmp_path / "c", PROMPTS)
    assert estimate(graph, encoder, tmp_path / "c", PROMPTS).prompts == 0


def test_overhead_is_measured_against_bare_forward_passes(
    graph: Graph, encoder: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow disk is the time of `embed` alone, a slow network that of both."""
    save, forward = Cache.save_shard, encoder.network.base_model.forward

    def slow_disk(*args: Any) -> object:
        time.sleep(2)
        return save(*args)

    def slow_network(*args: Any, **options: Any) -> object:
        time.sleep(0.1)
        return forward(*args, **options)

    monkeypatch.setattr(Cache, "save_shard", slow_disk)
    monkeypatch.setattr(encoder.network.base_model, "forward", slow_network)
    whole, bare = overhead(graph, encoder, PROMPTS, repeats=1)
    assert whole > 2.1
    assert 0.1 < bare < whole


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            dict(model="other"),
            "is of another language model: '[0-9a-f]{32}' there, '[0-9a-f]{32}' here; choose another",
        ),
        (dict(prompts=replace(PROMPTS, budget=50)), "is of another prompts"),
        (dict(text="changed"), "is of other texts"),
        (dict(label=1), "is of another graph"),
    ],
)
def test_a_cache_of_something_else_is_refused(
    graph: Graph, encoder: LanguageModel, folders: dict[str, Path], tmp_path: Path, change: Any, message: str
) -> None:
    embed(graph, encoder, tmp_path / "c", PROMPTS)
    before = (tmp_path / "c" / "shard-000000000000" / "hidden0.npy").read_bytes()
    model = LanguageModel.load(folders[change["model"]]) if "model" in change else encoder
    if "text" in change:
        graph = replace(graph, texts=(change["text"], *(graph.texts or ())[1:]))
    if "label" in change:
        graph = replace(graph, y=graph.y.clone().index_fill(0, torch.tensor([0]), change["label"]))
    with pytest.raises(ValueError, match=message):
        embed(graph, model, tmp_path / "c", change.get("prompts", PROMPTS))
    assert (tmp_path / "c" / "shard-000000000000" / "hidden0.npy").read_bytes() == before


def test_a_missing_model_is_named_with_the_command_that_fetches_it(tmp_path: Path) -> None:
    for name in ("nobody/nothing-of-that-name", str(tmp_path / "no")):
        with pytest.raises(FileNotFoundError, match=f"hf download {name} --local-dir FOLDER"):
            LanguageModel.load(name)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no model and tokenizer"):
        LanguageModel.load(tmp_path / "empty")


def test_device_and_type_that_do_not_exist_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="there is no device 'cuda:77' here"):
        LanguageModel.load(folders["encoder"], "cuda:77")
    with pytest.raises(ValueError, match="dtype is float32, bfloat16 or float16"):
        LanguageModel.load(folders["encoder"], dtype="int8")  # type: ignore[arg-type]
    half = LanguageModel.load(folders["encoder"], dtype="bfloat16")
    vectors, _ = half.read(half.padded([[0, 5, 1]]))
    assert vectors.dtype == torch.float32


def test_a_vector_too_large_for_float16_is_no_silent_infinity(
    graph: Graph, folders: dict[str, Path], tmp_path: Path
) -> None:
    loud = LanguageModel.load(folders["encoder"])
    with torch.no_grad():
        loud.network.encoder.layer[-1].output.LayerNorm.bias += 1e6
    with pytest.raises(FloatingPointError, match="output for node 0 is not finite, or too large for float16"):
        embed(graph, loud, tmp_path / "c", PROMPTS)


def test_a_killed_run_goes_on_where_it_was() -> None:
    """Killed by the system while it reads; what was written is not read again, and the end is the same to the bit."""
    script = [
        sys.executable,
        str(Path(__file__).parent / "killed_embed.py"),
        "--kills",
        "3",
        "--nodes",
        "120",
    ]  # many, so that work is left where this process waits for a core
    done = subprocess.run(script, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["killed"], found["last run ended with"], found["other leftovers"]) == (3, 0, [])
    assert 0 < found["shards left by each"][0] < found["of"]
    assert found["same to the bit"]
    assert found["files"] == 6 * found["of"]
    assert found["written twice"] == 0


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes inside: what writers meet on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_and_the_call_goes_on_when_it_is_free(
    graph: Graph, encoder: LanguageModel, tmp_path: Path
) -> None:
    whole = embed(graph, encoder, tmp_path / "whole", PROMPTS, shard=16)
    with ExitStack() as stack:

        def filled(nodes: int) -> None:
            if nodes == 16:  # the first shard is written
                stack.enter_context(full_disk(1000))

        with pytest.raises(OSError, match=r"/c/shard-000000000016 .*free some space"):
            embed(graph, encoder, tmp_path / "c", PROMPTS, shard=16, progress=filled)
    assert [each.name for each in (tmp_path / "c").iterdir()] == ["shard-000000000000"]
    told: list[int] = []
    again = embed(graph, encoder, tmp_path / "c", PROMPTS, shard=16, progress=told.append)
    assert told == [16, 16, 8]
    for hop in range(3):
        assert np.array_equal(np.asarray(again.hidden[hop]), np.asarray(whole.hidden[hop]))


def test_a_full_disk_leaves_no_half_of_a_model_or_a_table(
    graph: Graph, encoder: LanguageModel, folders: dict[str, Path], tmp_path: Path
) -> None:
    source = embed(graph, encoder, tmp_path / "source", PROMPTS)
    few = torch.arange(4)
    calls: dict[str, Callable[[], object]] = {
        "tuned": lambda: finetune(LanguageModel.load(folders["encoder"]), graph, few, tmp_path / "tuned", PROMPTS),
        "aligned": lambda: align(
            LanguageModel.load(folders["encoder"]),
            graph,
            source,
            tmp_path / "aligned",
            Prompts(hops=0, budget=60),
            epochs=1,
        ),
        "table.safetensors": lambda: write(tmp_path / "table.safetensors", {"a": torch.ones(2000)}),
    }
    for name, call in calls.items():
        with (
            full_disk(3000),
            pytest.raises(OSError, match=rf"{name} .*free some space|{name} could not be written.*free"),
        ):
            call()
        assert not (tmp_path / name).exists()
        assert not list(tmp_path.glob(f".{name}*"))
        call()
        assert (tmp_path / name).exists()


def test_sentences_about_objects_are_embedded(folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "texts.safetensors"
    call = ["--model", str(folders["encoder"]), "--classes", "river, stone", "--out", str(out)]
    embed_sentences.main(call)
    known = TextTable(out)
    assert list(known.place) == sorted(sentences(["river", "stone"]))
    model = LanguageModel.load(str(folders["encoder"]))
    alone, _ = model.read(model.padded(model.ids(["a stone parked, far, left"])))
    torch.testing.assert_close(known(["a stone parked, far, left"]), alone.float(), rtol=1e-4, atol=1e-5)
    with pytest.raises(SystemExit, match=r"texts\.safetensors exists"):
        embed_sentences.main(call)


def test_the_tool_says_what_is_wrong(folders: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit, match="hf download no/model"):
        embed_text.main(["digits", "--model", "no/model", "--out", str(tmp_path / "c")])
    with pytest.raises(SystemExit, match="the graph has no texts"):
        embed_text.main(["digits", "--model", str(folders["encoder"]), "--out", str(tmp_path / "c")])


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("graphkd.text")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"graphkd\.text needs transformers: pip install graphdensekd\[lm\]"):
        importlib.import_module("graphkd.text")


def test_numbers_of_numpy_are_settings_and_others_are_refused(
    graph: Graph, encoder: LanguageModel, tmp_path: Path
) -> None:
    plain = Prompts(hops=1, budget=60, neighbours=2, seed=3)
    same = Prompts(hops=np.int64(1), budget=np.int32(60), neighbours=np.int8(2), seed=np.uint8(3))  # type: ignore[arg-type]
    embed(graph, encoder, tmp_path / "c", plain)
    assert estimate(graph, encoder, tmp_path / "c", same).prompts == 0
    for wrong in (dict(hops=1.0), dict(budget=0), dict(neighbours="2"), dict(seed=-1)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Prompts(**wrong)  # type: ignore[arg-type]
    for wrong in (dict(shard=0), dict(batch_tokens=0), dict(explain=-1), dict(shard=1.5)):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            embed(graph, encoder, tmp_path / "d", plain, **wrong)  # type: ignore[arg-type]
    for mask in (np.ones(NODES, dtype=int), np.arange(3), np.ones(NODES - 1, dtype=bool)):
        with pytest.raises(ValueError, match="observed is a mask of bool"):
            embed(graph, encoder, tmp_path / "d", plain, observed=mask)
    assert not (tmp_path / "d").exists()


def test_batches_hold_what_they_may() -> None:
    prompts = [[0] * length for length in (5, 1, 9, 3, 3, 2)]
    assert list(by_length(prompts, 6)) == [[2], [0], [3, 4], [5, 1]]
    assert dataclasses.asdict(Prompts())["hops"] == 2
    with pytest.raises(ValueError, match="hops counts from 0, got -1"):
        Prompts(hops=-1)


@pytest.mark.data
def test_a_model_is_timed_beside_its_students(folders: dict[str, Path], data_root: Path) -> None:
    found = {
        ratio.name: ratio for ratio in benchmark_text.measure(str(folders["encoder"]), nodes=8, repeats=1, budget=64)
    }
    assert len(found) == 5
    assert 0.2 < found["embed / bare forward passes"].value < 20  # of eight nodes: no more than the right kind
    for student in ("GCN", "MLP"):
        one, many = (found[f"{student} / language model, {count}"] for count in ("one node", "256 nodes"))
        assert 0 < many.value < 1  # 256 prompts of words take longer than a network on 256 rows, however small
        assert one.value > 0

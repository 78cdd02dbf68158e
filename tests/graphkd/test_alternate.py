"""The tuned form of GLEM on a tiny model: the weighted loss by hand, and turns that read no label but the told ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from graphkd import Cache, Graph
from graphkd.data import Setting, Split, make_setting, text_graph
from graphkd.text import LanguageModel, Prompts, alternate, finetune
from graphkd.text.prompts import INSTRUCTION, Asker

NODES, TOLD = 60, 12
WORDS = (["river", "bank", "flow"], ["stone", "quartz", "granite"])
LABELS = ["water body", "water free"]
ASKED = replace(INSTRUCTION, before="", after="\nClass:", hops=0, budget=40)
PROMPTS = Prompts(hops=0, budget=20)
TEACHER = dict(type="hopwise", hidden=16, epochs=20)


@pytest.fixture(scope="module")
def graph() -> Graph:
    draw = np.random.default_rng(0)
    y = np.arange(NODES) % 2
    texts = [" ".join(draw.choice(WORDS[label], 4)) for label in y]
    ring = np.arange(NODES)
    return text_graph(texts, np.stack([ring, (ring + 2) % NODES]), y, min_df=1)


@pytest.fixture
def encoder(graph: Graph, save_model: Callable[..., Path], tmp_path: Path) -> LanguageModel:
    return LanguageModel.load(save_model(tmp_path / "encoder", list(graph.texts or ()), encoder=True))


def view(graph: Graph) -> Setting:
    parts = (torch.arange(a, b) for a, b in ((0, TOLD), (TOLD, 24), (24, NODES)))
    return make_setting(graph, Split(*parts), "tran", 0)


def test_labels_and_pseudo_labels_have_their_shares(
    graph: Graph, save_model: Callable[..., Path], tmp_path: Path
) -> None:
    causal = LanguageModel.load(save_model(tmp_path / "causal", [*(graph.texts or ()), *LABELS]))
    pseudo = torch.where(torch.arange(NODES) % 3 > 0, 1 - graph.y, -1)  # of the training nodes, too
    answers = causal.answers(LABELS)
    asker = Asker(graph, causal, ASKED, spare=8)

    def cost(node: int, label: int) -> float:
        prompt = asker.ask(node)[0]
        with torch.no_grad():
            log_p = causal.network(torch.tensor([[*prompt, *answers[label]]])).logits[0].double().log_softmax(1)
        first = len(prompt) - 1
        return -float(np.mean([log_p[first + k, token].item() for k, token in enumerate(answers[label])]))

    told = np.mean([cost(node, int(graph.y[node])) for node in range(TOLD)])
    guessed = np.mean([cost(node, int(pseudo[node])) for node in range(TOLD, NODES) if pseudo[node] >= 0])
    history = finetune(
        *(causal, graph, torch.arange(TOLD), tmp_path / "tuned", ASKED),
        **dict(labels=LABELS, pseudo=pseudo, alpha=0.3, lr=0.0, batch_size=NODES),
    )
    assert history.losses[0] == pytest.approx(0.7 * told + 0.3 * guessed, rel=1e-4)


def test_a_model_learns_from_pseudo_labels_alone_where_they_have_all_the_weight(
    graph: Graph, encoder: LanguageModel, tmp_path: Path
) -> None:
    wrong = replace(graph, y=1 - graph.y)
    options = dict(pseudo=graph.y, alpha=1.0, lr=0.01, epochs=3)
    folder = encoder.network.config._name_or_path
    one, two = (
        finetune(LanguageModel.load(folder), each, torch.arange(TOLD), tmp_path / name, PROMPTS, **options)
        for name, each in (("one", graph), ("two", wrong))
    )
    assert one.losses == two.losses
    assert one.losses[-1] < 0.7 * one.losses[0]


def test_in_turns_they_learn_and_read_no_label_of_test_nodes(
    graph: Graph, encoder: LanguageModel, tmp_path: Path
) -> None:
    blind = replace(graph, y=graph.y.clone().index_fill(0, torch.arange(24, NODES), 0))
    options = dict(rounds=2, tuning=dict(lr=0.01, epochs=2))
    folder = encoder.network.config._name_or_path
    one, two = (
        alternate(view(each), LanguageModel.load(folder), tmp_path / name, TEACHER, PROMPTS, **options)
        for name, each in (("one", graph), ("two", blind))
    )
    assert one.metrics["tran"] > 0.9
    assert one.cache is not None
    assert two.cache is not None
    assert np.array_equal(one.cache.logits, two.cache.logits)
    first, second = (np.asarray(Cache.load(tmp_path / "one" / f"cache-{k}").hidden[0]) for k in (0, 1))
    assert not np.allclose(first, second, atol=1e-3)
    with pytest.raises(ValueError, match="use the setting 'tran'"):
        alternate(replace(view(graph), name="ind"), encoder, tmp_path / "no", TEACHER)
    with pytest.raises(ValueError, match="rounds count from 1, got 0"):
        alternate(view(graph), encoder, tmp_path / "no", TEACHER, rounds=0)

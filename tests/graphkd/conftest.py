"""What several tests of the graph side work on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from graphkd import Graph
from graphkd.data import Setting, cpf_split, digits, observe

NODES, CLASSES, WORDS, EDGES = 800, 4, 300, 1600


@pytest.fixture(scope="session")
def setting() -> Setting:
    """The digits, all of them seen."""
    graph = digits()
    return observe(graph, cpf_split(graph.y, 0), "tran", 0)


@pytest.fixture(scope="session")
def papers() -> Graph:
    """Papers with some words of their topic and many of any, that cite their own topic four times out of five."""
    draw = np.random.default_rng(0)
    topic = draw.integers(CLASSES, size=NODES)
    words = draw.random((CLASSES, WORDS)) ** 6
    words = 2 * words / words.sum(1, keepdims=True) + 8 / WORDS
    x = draw.random((NODES, WORDS)) < words[topic]
    citing = draw.integers(NODES, size=EDGES)
    like = np.array([draw.choice(np.flatnonzero(topic == each)) for each in topic[citing]])
    cited = np.where(draw.random(EDGES) < 0.8, like, draw.integers(NODES, size=EDGES))
    edges = torch.from_numpy(np.stack([citing, cited])[:, citing != cited])
    both = torch.cat([edges, edges.flip(0)], 1).unique(dim=1)
    return Graph(torch.from_numpy(x).float(), both, torch.from_numpy(topic), CLASSES, torch.arange(NODES))

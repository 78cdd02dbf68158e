"""What several tests of the graph side work on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from graphkd import Graph
from graphkd.data import Setting, cpf_split, digits, make_setting

NODES, CLASSES, WORDS, EDGES = 800, 4, 300, 1600


@pytest.fixture(scope="session")
def setting() -> Setting:
    """The digits, all of them seen."""
    graph = digits()
    return make_setting(graph, cpf_split(graph.y, 0), "tran", 0)


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


@pytest.fixture(scope="session")
def save_model() -> Callable[..., Path]:
    """A function that writes a tiny language model, which stands for the interface of a large one."""
    return _save_model


def _save_model(folder: Path, texts: list[str], encoder: bool = False, seed: int = 0, width: int = 32) -> Path:
    """A causal model or an encoder with random weights, and a tokenizer of bytes and pieces of the words of `texts`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<s>", "</s>", "<pad>"]
    bare = Tokenizer(models.BPE())
    bare.decoder = decoders.ByteLevel()
    bare.normalizer = normalizers.NFC()
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    bare.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=letters, show_progress=False),
    )
    bare.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>" if encoder else "<s> $A", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, model_max_length=128, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    shape = dict(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=128,
        pad_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = (
            BertModel(BertConfig(**shape), add_pooling_layer=False)
            if encoder
            else LlamaForCausalLM(LlamaConfig(**shape, bos_token_id=0, eos_token_id=1, initializer_range=0.2))
        )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder

"""Align a small encoder to a large one's embedding space, so that it can query the large one's index."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

import kdlosses
from graphkd.data.graph import Graph
from graphkd.sparse.rows import rows
from graphkd.text.folders import weights_mark
from graphkd.text.model import LanguageModel
from graphkd.text.prompts import Asker, Prompts, check_counts
from graphkd.text.sentence_encoder import DENSE, copy_options
from graphkd.training.cache import Cache
from graphkd.training.loop import History, Schedule, train
from graphkd.training.parallel import processes
from kdlosses.whole import whole


def align(
    model: LanguageModel,
    graph: Graph,
    source: Cache,
    path: str | Path,
    prompts: Prompts | None = None,
    *,
    lr: float = 2e-4,
    epochs: int = 3,
    batch_size: int = 16,
    seed: int = 0,
) -> History:
    r"""Train a small encoder to match a large one's cached vectors, and write it to a folder for `load`.

    With $f_{ik}$ what the tokens of node i's prompt of hop k stand for and $e_{ik}$ the large model's vector,

    $$ L = \frac{1}{n} \sum_{i, k} \frac{1}{C_t} \Bigl\| W f_{ik} + b - \frac{e_{ik}}{\|e_{ik}\|} \Bigr\|^2, $$

    the registered loss `leaf`. The output layer W stays: it is written beside the model, as sentence encoders lay it,
    and what the model then gives is scaled to length 1. No label is read. Several processes may
    share the work, see `graphkd.training.parallel`.

    Args:
        model: an encoder, changed in place: all its parameters learn. `LanguageModel.load(..., layers=2)` of the large
            one is a start.
        graph: with texts.
        source: the large model's cache of this graph, see `embed`; only nodes that it saw are learnt from.
        path: folder, which must not exist.
        prompts: prompt settings, with no more hops than the source; the budget may be smaller.
        lr: learning rate of Adam.
        epochs: how often each prompt is read.
        batch_size: prompts in a step.
        seed: of W and of the order of prompts.

    Raises:
        FileExistsError: the folder exists.
        OSError: it could not be written.
        ValueError: the model is causal, or the source is of another graph or has fewer hops.

    Paper: Vujanic, Rueckstiess, "LEAF: Knowledge Distillation of Text Embedding Models with Teacher-Aligned
    Representations", 2025. The scaling and all options are our own.
    """
    path, prompts = Path(path), prompts or Prompts(hops=0)
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another folder for the aligned model, or remove it")
    check_counts(epochs=epochs, batch_size=batch_size)
    if model.causal:
        raise ValueError("align: the model must be a text encoder, not a causal language model")
    source.check(graph.fingerprint())
    if len(source.hidden) <= prompts.hops:
        raise ValueError(f"align: the source has the hops 0 to {len(source.hidden) - 1}, prompts up to {prompts.hops}")
    asker = Asker(graph, model, prompts, source.observed)
    asked = [
        (prompt, node, hop)
        for node in source.observed.nonzero()[0].tolist()
        for hop, prompt in enumerate(asker.ask(node))
    ]
    goal = [rows(layer) for layer in source.hidden[: prompts.hops + 1]]
    channels = dict(
        student_channels=model.network.config.get_text_config().hidden_size, teacher_channels=goal[0].shape[1]
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        leaf: Any = kdlosses.build(dict(type="leaf", **channels)).to(model.device)

        def loss(drawn: Tensor | slice) -> Tensor:
            part = [asked[place] for place in torch.arange(len(asked))[drawn].tolist()]
            batch = model.padded([prompt for prompt, *_ in part])
            features = model.features(model.hidden(batch), batch["attention_mask"])
            target = torch.stack([goal[hop][node] for _, node, hop in part]).to(features)
            return leaf(features, F.normalize(target, dim=1))

        learning = nn.ModuleList([model.network, leaf])
        schedule = Schedule(lr=lr, weight_decay=0.0, epochs=epochs, batch_size=batch_size)
        history = train(learning, loss, len(asked), schedule=schedule, generator=torch.Generator().manual_seed(seed))
    model.network.eval()
    model.output, model.unit = leaf.loss.output.requires_grad_(False), True
    model.width = leaf.loss.output.out_features
    if processes()[0] == 0:
        _save(model, path)
    if processes()[1] > 1:
        torch.distributed.barrier()
    model.mark = weights_mark(path)
    return history


def _save(model: LanguageModel, path: Path) -> None:
    """Write the model, how it pools, its output layer and that it normalises."""
    modes = {"mean": "mean_tokens", "first": "cls_token", "last": "lasttoken"}
    output = model.output
    assert isinstance(output, nn.Linear)
    told: dict[str, dict[str, Any]] = {
        "1_Pooling": {
            "word_embedding_dimension": output.in_features,
            **{f"pooling_mode_{name}": pool == model.pool for pool, name in modes.items()},
        },
        DENSE: {
            "in_features": output.in_features,
            "out_features": output.out_features,
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
        "3_Normalize": {},
    }
    with whole(path, folder=True) as draft:
        model.network.save_pretrained(draft)
        model.tokenizer.save_pretrained(draft)
        if model.folder is not None:
            copy_options(model.folder, draft)
        for name, config in told.items():
            (draft / name).mkdir()
            (draft / name / "config.json").write_text(json.dumps(config, indent=1))
        save_file(
            {f"linear.{key}": each.contiguous() for key, each in output.state_dict().items()},
            draft / DENSE / "model.safetensors",
        )
        kinds = ["Transformer", "Pooling", "Dense", "Normalize"]
        places = ["", "1_Pooling", DENSE, "3_Normalize"]
        modules = [
            {"idx": k, "name": str(k), "path": place, "type": f"sentence_transformers.models.{kind}"}
            for k, (place, kind) in enumerate(zip(places, kinds))
        ]
        (draft / "modules.json").write_text(json.dumps(modules, indent=1))

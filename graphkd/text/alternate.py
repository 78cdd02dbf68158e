"""GLEM with a language model as text model, tuned in turns with the graph network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from graphkd.data.setting import Setting
from graphkd.text.embed import embed
from graphkd.text.finetune import finetune
from graphkd.text.model import LanguageModel
from graphkd.text.prompts import Prompts

if TYPE_CHECKING:
    from graphkd.pipeline.outcome import Outcome


def alternate(
    setting: Setting,
    model: LanguageModel,
    path: str | Path,
    teacher: Mapping[str, Any],
    prompts: Prompts | None = None,
    *,
    labels: Sequence[str] = (),
    rounds: int = 2,
    lam: float = 0.5,
    alpha: float = 0.5,
    sure: float = 0.0,
    seed: int = 0,
    tuning: Mapping[str, Any] | None = None,
) -> Outcome:
    r"""Tune a language model on a graph network's pseudo-labels and the network on its own, in turns.

    The E-step is `finetune`: LoRA on the training nodes' labels and, from the second turn on, with the share $\alpha$
    on the classes that the network of the turn before finds most probable elsewhere, where it is sure enough. Then the
    tuned model reads every node anew, and in the M-step a new network that reads these vectors is trained by the recipe
    `glem` with one turn: on the labels with the weight $\lambda$, and on what an MLP on the vectors makes of the other
    nodes. The form that leaves the language model as it is, in seconds, is that recipe alone.

    Args:
        setting: `tran`, of a graph with texts.
        model: tuned in place, turn after turn.
        path: folder; `model-0`, `cache-0` and so on are written there.
        teacher: the network, as for `graphkd.train_teacher`, without source, inputs and method.
        prompts: prompt settings; if not given, of each node alone.
        labels: what the classes are called; for causal models.
        rounds: turns.
        lam: $\lambda$.
        alpha: $\alpha$.
        sure: least probability of a pseudo-label, in both steps.
        seed: of both.
        tuning: further options of `finetune`.

    Returns:
        what `graphkd.train_teacher` does, of the turn with the best validation accuracy; of equals of the first.

    Paper: Zhao et al., "Learning on Large-scale Text-attributed Graphs via Variational Inference" (GLEM), ICLR 2023.
    New networks in each turn and the MLP between language model and pseudo-labels are our own.
    """
    from graphkd.pipeline.train_teacher import train_teacher  # which imports PyG

    if setting.name != "tran":
        raise ValueError("alternate: the language model reads every node; use the setting 'tran'")
    if rounds < 1:
        raise ValueError(f"alternate: rounds count from 1, got {rounds}")
    prompts, path, graph = prompts or Prompts(hops=0), Path(path), setting.whole
    best: Outcome | None = None
    pseudo = None
    for turn in range(rounds):
        folder = path / f"model-{turn}"
        finetune(
            *(model, graph, setting.train, folder, prompts),
            **{"labels": labels, "pseudo": pseudo, "alpha": alpha, "seed": seed, **(tuning or {})},
        )
        cache = embed(graph, model, path / f"cache-{turn}", prompts)
        method = dict(type="glem", rounds=1, lam=lam, sure=sure)
        outcome = train_teacher(setting, {**teacher, "source": cache, "inputs": 0, "method": method}, seed)
        assert outcome.cache is not None
        told = torch.from_numpy(np.array(outcome.cache.logits)).softmax(1).max(1)
        pseudo = told.indices.where(told.values >= sure, -1)
        if best is None or (outcome.val or 0.0) > (best.val or 0.0):
            best = outcome
    assert best is not None
    return best

"""Fine-tune a language model on the training nodes of a graph with LoRA, before it embeds all nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from peft import LoraConfig, TaskType, get_peft_model
from torch import Tensor, nn

from graphkd.data.graph import Graph
from graphkd.text.folders import weights_mark
from graphkd.text.model import LanguageModel
from graphkd.text.prompts import Asker, Prompts, check_counts
from graphkd.text.sentence_encoder import SentenceEncoder, copy_parts
from graphkd.training.loop import History, Schedule, train
from graphkd.training.parallel import processes
from kdlosses.whole import whole


def finetune(
    model: LanguageModel,
    graph: Graph,
    nodes: Tensor,
    path: str | Path,
    prompts: Prompts | None = None,
    *,
    labels: Sequence[str] = (),
    pseudo: Tensor | None = None,
    alpha: float = 0.5,
    rank: int = 8,
    lr: float = 2e-4,
    epochs: int = 1,
    batch_size: int = 8,
    seed: int = 0,
) -> History:
    r"""Fine-tune a model in place on nodes with known labels, hop by hop, and write it to a folder that `load` reads.

    With a prompt x of a node and its label y in words, a causal model minimises

    $$ - \frac{1}{|y|} \sum_t \log p(y_t \mid x, y_{<t}) $$

    and an encoder the cross-entropy of a linear head on what stands for the prompt, which is dropped in the end. What
    is added to each of its linear layers is a product of two matrices of this rank, merged into the weights after the
    training. With pseudo-labels of other nodes U, what is minimised is $1 - \alpha$ times its mean over the training
    nodes plus $\alpha$ times that over U. In several processes, see `graphkd.training.parallel`.

    Args:
        model: changed in place.
        graph: with texts and labels.
        nodes: the training nodes, `(n,)`, or a mask `(N,)` of bool. No other label is read, but their neighbours'
            texts are.
        path: folder, which must not exist.
        prompts: prompt settings, the same here and for `embed`.
        labels: what the classes are called; needed by a causal model, and by no other.
        pseudo: classes `(N,)` that a graph network has found, -1 where none is to be learnt; the training nodes keep
            their labels.
        alpha: $\alpha$, share of the pseudo-labels.
        rank: of LoRA, whose scale is 2.
        lr: learning rate of Adam.
        epochs: how often each prompt is read.
        batch_size: prompts in a step.
        seed: of the parameters and of the order of prompts.

    Raises:
        FileExistsError: the folder exists.
        OSError: it could not be written.
        ValueError: there are no labels for a causal model, a node has no label or does not exist, or an option is
            out of range.

    Paper: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2022, as in Hu et al., "Large Language Model
    Meets Graph Neural Network in Knowledge Distillation", 2024: one epoch with the rate 2e-4. Rank and batch are our
    own.
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another folder for the tuned model, or remove it")
    check_counts(rank=rank, epochs=epochs, batch_size=batch_size)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha is a share, 0 to 1, got {alpha}")
    nodes = torch.as_tensor(nodes)
    if nodes.dtype is torch.bool:
        if nodes.shape != graph.y.shape:
            raise ValueError(f"a mask of the training nodes is ({len(graph)},), got {tuple(nodes.shape)}")
        nodes = nodes.nonzero().flatten()
    if nodes.ndim != 1 or nodes.is_floating_point() or not len(nodes):
        raise ValueError(f"expected the numbers of the training nodes, (n,), got {nodes.dtype} {tuple(nodes.shape)}")
    if (strange := nodes[(nodes < 0) | (nodes >= len(graph))]).numel():
        raise ValueError(f"there is no node {int(strange[0])}: the graph has the nodes 0 to {len(graph) - 1}")
    if model.causal and len(labels) != graph.num_classes:
        raise ValueError(
            f"a causal model is fine-tuned on labels in words: {len(labels)} given, {graph.num_classes} classes"
        )
    if (graph.y[nodes] < 0).any():
        raise ValueError(f"node {int(nodes[graph.y[nodes] < 0][0])} has no label to fine-tune on")
    answers = model.answers(labels) if model.causal else []
    asker = Asker(graph, model, prompts or Prompts(), spare=max(map(len, answers), default=0))
    target = graph.y.index_select(0, nodes)
    share = torch.ones(len(nodes))
    if pseudo is not None:
        free = (pseudo >= 0).index_fill(0, nodes, False).nonzero().flatten()
        count, nodes, target = len(nodes), torch.cat([nodes, free]), torch.cat([target, pseudo[free]])
        share = torch.full((len(nodes),), (1 - alpha) * len(nodes) / count)
        share[count:] = alpha * len(nodes) / max(1, len(free))
    asked = [
        (prompt, label, weight)
        for node, label, weight in zip(nodes.tolist(), target.tolist(), share.tolist())
        for prompt in asker.ask(node)
    ]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kind = TaskType.CAUSAL_LM if model.causal else None
        config = LoraConfig(task_type=kind, r=rank, lora_alpha=2 * rank, target_modules="all-linear")
        tuned: Any = get_peft_model(model.network, config)
        head = None if model.causal else nn.Linear(model.width, graph.num_classes).to(model.device, model.network.dtype)

        def loss(drawn: Tensor | slice) -> Tensor:
            chosen = torch.arange(len(asked))[drawn].tolist()
            part = [asked[place] for place in chosen]
            weight = torch.tensor([weight for *_, weight in part], device=model.device)
            if head is None:
                return (
                    weight * _answered(model, tuned, [(prompt, answers[label]) for prompt, label, _ in part])
                ).mean()
            batch = model.padded([prompt for prompt, *_ in part])
            pooled = model.pooled(model.hidden(batch), batch["attention_mask"])
            y = torch.tensor([label for _, label, _ in part], device=pooled.device)
            each = F.cross_entropy(head(pooled.to(head.weight.dtype)).float(), y, reduction="none")
            return (weight * each).mean()

        learning = nn.ModuleList([tuned] if head is None else [tuned, head])
        schedule = Schedule(lr=lr, weight_decay=0.0, epochs=epochs, batch_size=batch_size)
        history = train(learning, loss, len(asked), schedule=schedule, generator=torch.Generator().manual_seed(seed))
    model.network = tuned.merge_and_unload().eval()
    if processes()[0] == 0:
        _save(model, path)
    if processes()[1] > 1:
        torch.distributed.barrier()
    model.mark = weights_mark(path)
    return history


def _answered(model: LanguageModel, network: Any, pairs: Sequence[tuple[list[int], list[int]]]) -> Tensor:
    """Cross-entropy of the tokens of each answer alone, the mean over them."""
    batch = model.padded([[*prompt, *answer] for prompt, answer in pairs])
    target = torch.full_like(batch["input_ids"], -100)
    for row, (_, answer) in enumerate(pairs):
        target[row, -len(answer) :] = batch["input_ids"][row, -len(answer) :]
    each = F.cross_entropy(
        network(**batch).logits[:, :-1].float().mT, target[:, 1:], ignore_index=-100, reduction="none"
    )
    return each.sum(1) / (target[:, 1:] >= 0).sum(1)


def _save(model: LanguageModel, path: Path) -> None:
    """Write the model as it lay in its folder before, pooling and all."""
    before = model.folder
    with whole(path, folder=True) as draft:
        place = draft if before is None else draft / SentenceEncoder.folder_of(before).relative_to(before)
        model.network.save_pretrained(place)
        model.tokenizer.save_pretrained(place)
        if before is not None:
            copy_parts(before, draft)

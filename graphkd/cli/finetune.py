"""Fine-tune a language model with LoRA on a graph's training nodes.

    graphkd finetune cane_cora --model A --out B

GRAPH and the ways to ask are those of `graphkd embed`, which then reads the graph with the model in the folder B.
The training nodes are those of one split, so that each seed has a tuned model of its own. A causal model needs
`--labels`, what the classes are called. With `--align CACHE` no label is read: an encoder, or with `--layers` the first
layers of one, learns the vectors that a larger one left there, so that its own can be compared with them.
`torchrun --nproc-per-node 4 -m graphkd.cli finetune ...` shares the batches.
"""

from __future__ import annotations

from pathlib import Path

from graphkd.cli import _texts as texts
from kdlosses.cli.mistakes import one_sentence, place_to_write, positive, whole

with one_sentence():
    from graphkd.text import align, finetune
    from graphkd.training.cache import Cache


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    parser = texts.parser(__doc__, "graphkd finetune", "float32", "bfloat16")
    parser.add_argument("--seed", type=whole(0), default=0, help="of the split and of the training")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tuned model")
    parser.add_argument("--align", type=Path, metavar="CACHE", help="of `graphkd embed`: learn its vectors, no labels")
    parser.add_argument(
        "--layers", type=whole(1), help="so many layers of the model, from the first, make a smaller one"
    )
    parser.add_argument("--rank", type=whole(1), default=8)
    parser.add_argument("--lr", type=positive, default=2e-4)
    parser.add_argument("--epochs", type=whole(1), default=1)
    parser.add_argument("--batch-size", type=whole(1), default=8)
    args = parser.parse_args(arguments)
    if args.align and (args.labels or args.split):
        parser.error("--align learns vectors and reads no label: leave out --labels and --split")
    place_to_write(args.out, new=True)
    texts.join()
    graph = texts.graph_of(args)
    train = None if args.align else texts.split_for(graph, args.seed).train
    model = texts.model_of(args, layers=args.layers)
    prompts = texts.prompts_of(args, model)
    schedule = dict(lr=args.lr, epochs=args.epochs, batch_size=args.batch_size, seed=args.seed)
    if train is None:
        history = align(model, graph, Cache.load(args.align), args.out, prompts, **schedule)
    else:
        labels = texts.listed(args.labels)
        history = finetune(model, graph, train, args.out, prompts, labels=labels, rank=args.rank, **schedule)
    print(f"loss of each epoch: {', '.join(f'{loss:.3f}' for loss in history.losses)}; {sum(history.seconds):.0f} s")

"""Rank students, or search one, by a score that needs no training, before one of them is trained.

    graphkd rank --graph cora --hidden 16 64 256 64,64
    graphkd rank --graph cora --search 16 32 64 128 256 --layers 3 --budget 100000

The score is that of DisWOT, between an untrained student and an untrained teacher, see `graphkd.rank_students`.
`--search` looks for the best student of up to so many layers of these widths by evolution, and prints the ten best that
it met. With `--check` all students are trained, too, and Kendall's tau says how far the scores rank as the accuracies
do, and how far the numbers of parameters would.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from graphkd.data import load
from graphkd.pipeline.ranking import Ranking, rank_students, search_students
from kdlosses.cli.mistakes import whole
from kdlosses.cli.parser import Parser


def main(arguments: list[str] | None = None) -> None:
    """Score the students, and print them from the best to the worst."""
    parser = Parser(__doc__, "graphkd rank")
    parser.add_argument("--graph", required=True, help="a name like cora, or module:name")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--hidden", type=widths, nargs="+", metavar="WIDTHS", help="hidden layers of each student: 64,64"
    )
    given.add_argument("--search", type=whole(1), nargs="+", metavar="WIDTH", help="widths of a layer, to choose from")
    parser.add_argument("--layers", type=whole(1), help="with --search: hidden layers at most (default: 3)")
    parser.add_argument("--budget", type=whole(1), help="with --search: parameters at most")
    parser.add_argument("--teacher", default="sage", help="a name, or module:name")
    parser.add_argument("--seeds", type=whole(1), default=3, help="seeds 0 to SEEDS - 1, to average over (default: 3)")
    parser.add_argument("--check", action="store_true", help="train the students, too")
    parser.add_argument("--root", type=Path, help="folder of the data (default: KD_DATA_ROOT)")
    args = parser.parse_args(arguments)
    seeds, graph = range(args.seeds), load(args.graph, args.root)
    if args.search:
        if args.check:
            parser.error("--check trains each student of --hidden: name there those that --search found")
        options = {} if args.layers is None else {"layers": args.layers}
        print(
            table(
                search_students(graph, args.teacher, widths=args.search, budget=args.budget, seeds=seeds, **options), 10
            )
        )
        return
    if args.layers is not None or args.budget is not None:
        parser.error("--layers and --budget go with --search")
    if len(args.hidden) < 2:
        parser.error("--hidden takes the widths of two students or more: a single one has no rank")
    print(table(rank_students(graph, args.hidden, args.teacher, seeds=seeds, check=args.check)))


def widths(text: str) -> tuple[int, ...]:
    """Read the widths of a student's hidden layers.

    >>> widths("64,32")
    (64, 32)
    """
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise argparse.ArgumentTypeError(f"expected widths with commas between them, 64,64, got {text!r}")
    return found


def table(ranking: Ranking, most: int | None = None) -> str:
    """Format a ranking as Markdown: the best, `most` of them."""
    accuracy = ranking.accuracy or ()
    head = ["hidden layers", "parameters", "score", *(["accuracy"] if accuracy else [])]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for place in sorted(range(len(ranking.hidden)), key=lambda place: -ranking.score[place])[:most]:
        hidden = ", ".join(map(str, ranking.hidden[place])) or "none"
        cells = [hidden, f"{ranking.parameters[place]:,}", f"{ranking.score[place]:.4f}"]
        cells += [f"{100 * accuracy[place]:.2f}"] if accuracy else []
        lines.append(f"| {' | '.join(cells)} |")
    if ranking.tau is not None:
        lines += ["", f"Kendall's tau: {ranking.tau:+.2f} by score, {ranking.size_tau:+.2f} by number of parameters"]
    return "\n".join(lines)

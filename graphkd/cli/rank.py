"""Rank students by a score that needs no training, before one of them is trained.

    graphkd rank --graph cora --hidden 16 64 256 64,64

The score is that of DisWOT, between an untrained student and an untrained teacher, see `graphkd.rank_students`.
With `--check` all students are trained, too, and Kendall's tau says how far the scores rank as the accuracies do, and
how far the numbers of parameters would.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from graphkd.data import load
from graphkd.pipeline.ranking import Ranking, rank_students
from kdlosses.cli.mistakes import whole
from kdlosses.cli.parser import Parser


def main(arguments: list[str] | None = None) -> None:
    """Score the students, and print them from the best to the worst."""
    parser = Parser(__doc__, "graphkd rank")
    parser.add_argument("--graph", required=True, help="a name like cora, or module:name")
    parser.add_argument(
        "--hidden", type=widths, nargs="+", required=True, metavar="WIDTHS", help="hidden layers of each student: 64,64"
    )
    parser.add_argument("--teacher", default="sage", help="a name, or module:name")
    parser.add_argument("--seeds", type=whole(1), default=3, help="seeds 0 to SEEDS - 1, to average over (default: 3)")
    parser.add_argument("--check", action="store_true", help="train the students, too")
    parser.add_argument("--root", type=Path, help="folder of the data (default: KD_DATA_ROOT)")
    args = parser.parse_args(arguments)
    if len(args.hidden) < 2:
        parser.error("--hidden takes the widths of two students or more: a single one has no rank")
    graph = load(args.graph, args.root)
    print(table(rank_students(graph, args.hidden, args.teacher, seeds=range(args.seeds), check=args.check)))


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


def table(ranking: Ranking) -> str:
    """Format a ranking as Markdown."""
    accuracy = ranking.accuracy or ()
    head = ["hidden layers", "score", *(["accuracy"] if accuracy else [])]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for place in sorted(range(len(ranking.hidden)), key=lambda place: -ranking.score[place]):
        cells = [", ".join(map(str, ranking.hidden[place])), f"{ranking.score[place]:.4f}"]
        cells += [f"{100 * accuracy[place]:.2f}"] if accuracy else []
        lines.append(f"| {' | '.join(cells)} |")
    if ranking.tau is not None:
        lines += ["", f"Kendall's tau: {ranking.tau:+.2f} by score, {ranking.size_tau:+.2f} by number of parameters"]
    return "\n".join(lines)

"""Compare teachers and methods over seeds, with an untaught control: a table, and if wanted a page with a plot.

    graphkd compare --graph digits --teachers sage gcn --methods glnn krd --seeds 3
    graphkd compare --graph cora --teachers sage --methods glnn ffg2m --setting tran ind --html cora.html

Each teacher is trained once for each seed and shared by the methods. The log, a JSON file, is written after each run;
the same command goes on where it was stopped, and one with more seeds, methods or teachers trains what is new. A log of
other data, settings or students is not mixed with this one: choose another --out. Teachers and methods of one's own are
`module:name`.
"""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from graphkd.data import load
from graphkd.pipeline.checks import check_writable
from graphkd.pipeline.compare import compare
from kdlosses.cli.mistakes import one_sentence, whole
from kdlosses.cli.parser import Parser
from kdlosses.discover import imported


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = Parser(__doc__, "graphkd compare")
    parser.add_argument("--graph", required=True, help="a name like cora, or module:name")
    parser.add_argument("--teachers", nargs="+", default=["sage"], help="names, or module:name (default: sage)")
    parser.add_argument("--methods", nargs="+", default=["glnn"], help="names, or module:name (default: glnn)")
    parser.add_argument("--seeds", type=whole(1), default=10, help="seeds 0 to SEEDS - 1, each a split (default: 10)")
    parser.add_argument("--setting", nargs="+", choices=("tran", "ind"), default=["tran"], help="(default: tran)")
    parser.add_argument("--scoring", nargs="+", help="scorers of scikit-learn; the first selects the epoch")
    parser.add_argument(
        "--scale",
        choices=("auto", "full", "sampled"),
        default="auto",
        help="whole graph in each step, or sampled neighbourhoods (default: auto, by the size of the graph)",
    )
    parser.add_argument("--folder", type=Path, help="keep the caches of the teachers, as TEACHER/SETTING-SEED")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, or auto, CUDA where there is one (default: cpu)")
    parser.add_argument("--amp", action="store_true", help="multiply in bfloat16 in training")
    parser.add_argument("--out", type=Path, help="the log (default: results/compare/GRAPH.json)")
    parser.add_argument("--html", type=Path, help="also write a page with a plot and the table")
    parser.add_argument("--root", type=Path, help="folder of the data (default: KD_DATA_ROOT)")
    args = parser.parse_args(arguments)
    graph = load(args.graph, args.root)
    name = args.graph.replace(":", ".")
    out = args.out or Path("results") / "compare" / f"{name}.json"
    if args.html is not None:
        check_writable("--html", args.html)
    teachers = [imported("teacher", each) if ":" in each else each for each in args.teachers]
    methods = [imported("method", each) if ":" in each else each for each in args.methods]
    runs = args.seeds * (1 + len(teachers) * (1 + len(methods)))
    with tqdm(total=runs, desc=name, unit="run") as bar:

        def tick(said: str) -> None:
            bar.set_postfix_str(said, refresh=False)
            bar.update()

        found = compare(
            graph,
            teachers,
            methods,
            seeds=args.seeds,
            settings=args.setting,
            scoring=args.scoring,
            scale=args.scale,
            folder=args.folder,
            device=args.device,
            amp=args.amp,
            log=out,
            name=name,
            tick=tick,
        )
    print(found)
    if args.html is not None:
        print(f"page {found.html(args.html)}")

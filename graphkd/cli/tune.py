"""Choose a recipe and its options on validation nodes, under a budget that is stated.

    graphkd tune digits --teacher sage --recipes glnn ffg2m krd --trials 20 --seeds 3 --out tuned
    graphkd tune graphkd::glnn/digits.py --setting ind --hours 1 --out tuned
    graphkd distill tuned/best.py

GRAPH is a name like cora, or module:name; or there is a config of `graphkd distill`, with recipes of its own. The
untaught student is trained first, then each recipe as it is given, then Optuna draws a recipe, the weight of the
labels, temperatures, the weights of losses and what else the recipe names. Trials that fall behind are stopped early.
Test labels are not read. The same command goes on where it was stopped, and with more trials or hours it goes on from
there.

To fine-tune a language model on the texts of a graph, see `graphkd finetune`.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from pprint import pformat
from typing import Any

from graphkd.cli._config import DEFAULTS, Config, check, methods_of, read_config, teacher_of
from graphkd.cli.distill import student_of
from graphkd.data import load
from graphkd.pipeline.tuning import Ranges, tune_on
from graphkd.shipped import CONFIGS
from graphkd.training.watch import Run
from kdlosses.cli.mistakes import one_sentence, place_to_write
from kdlosses.cli.parser import Parser
from kdlosses.cli.study import Budget, add_budget, add_range, place_of_best
from kdlosses.options import checked_seeds
from kdlosses.space import FACTORS, RATIOS, TEMPERATURES
from kdlosses.whole import whole

_MOVED = ("--model", "--align")


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    """Run the trials that are missing, and print what was found."""
    given = sys.argv[1:] if arguments is None else arguments
    if any(each.partition("=")[0] in _MOVED for each in given):
        raise SystemExit("graphkd tune with a language model is now graphkd finetune: the same options, another name")
    parser = Parser(__doc__, "graphkd tune")
    parser.add_argument("graph", metavar="GRAPH", help="a name, module:name, or a config: a file or graphkd::...")
    parser.add_argument("--teacher", help="a name, or module:name (default: sage, or that of the config)")
    parser.add_argument(
        *("--recipes", "--methods"),
        dest="recipes",
        nargs="+",
        default=[],
        metavar="RECIPE",
        help="names, or module:name (default: glnn, or those of the config)",
    )
    parser.add_argument(
        "--losses", nargs="+", default=[], help="losses on logits, each by itself; names, or module:name"
    )
    parser.add_argument("--setting", choices=("tran", "ind"), help="(default: tran, or the first of the config)")
    parser.add_argument("--scoring", help="a scorer of scikit-learn, which selects epochs and trials")
    add_budget(parser)
    add_range(parser, "--factor", FACTORS[:2], "of the factor on the weights of losses")
    add_range(parser, "--ratio", RATIOS[:2], "of their pull to that of the labels, where weights are measured")
    add_range(parser, "--temperature", TEMPERATURES[:2], "of the factor on temperatures")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, or auto, CUDA where there is one (default: cpu)")
    parser.add_argument("--amp", action="store_true", help="multiply in bfloat16 in training")
    parser.add_argument("--root", type=Path, help="folder of the data (default: KD_DATA_ROOT)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the study, to go on in it, too")
    args = parser.parse_args(arguments)
    config, name = asked_for(args)
    check(config)
    out = place_to_write(args.out, new=False)
    path = place_of_best(out)
    graph = load(config["data"], args.root)
    setting = args.setting or config["settings"][0]
    found = tune_on(
        graph,
        lambda seed: teacher_of(config["teacher"], setting, seed),
        config["methods"],
        budget=Budget.of(args.trials, args.hours),
        seeds=checked_seeds(args.seeds),
        setting=setting,
        student=student_of(graph, config),
        split=None,
        isolated="raise",
        scoring=args.scoring or _first(config.get("scoring")),
        space={},
        ranges=Ranges.of((*args.factor, True), (*args.ratio, True), (*args.temperature, True)),
        pruner=args.pruner,
        run=Run.of(args.device, args.amp),
        device=args.device,
        out=out,
        name=name,
        tick=lambda said: print(said, file=sys.stderr, flush=True),
    )
    with whole(path) as draft:
        best = {**config, "settings": [setting], "methods": [found.best]}
        if args.scoring:
            best["scoring"] = [args.scoring]
        lines = [f"# The best of {len(found.trials)} trials on validation nodes: {found.best_trial}."]
        lines += [f"{key} = {pformat(value, width=110, sort_dicts=False)}" for key, value in best.items()]
        draft.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(found)
    print(f"The best is {path}: `graphkd distill {path} --seeds 10` for its test scores.")


def asked_for(args: Any) -> tuple[Config, str]:
    """The config and its name: that of a file, or what the command line says of a graph."""
    methods = methods_of(args.recipes, args.losses)
    if args.graph.endswith(".py") or args.graph.startswith("graphkd::"):
        path = CONFIGS.argument(args.graph)
        config, name = read_config(path), f"{path.parent.name}-{path.stem}"
        config["methods"] = methods or config["methods"]
    else:
        config = copy.deepcopy(DEFAULTS) | {"data": args.graph, "methods": methods or [{"type": "glnn"}]}
        config["settings"], name = ["tran"], args.graph
    if args.teacher:
        config["teacher"] = {**copy.deepcopy(DEFAULTS["teacher"]), "type": args.teacher}
    return config, name


def _first(scoring: Any) -> Any:
    return scoring[0] if isinstance(scoring, list) and scoring else scoring or None

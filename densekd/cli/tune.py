"""Choose method, weights and temperatures on validation data, under a budget that is stated.

    densekd tune STUDENT.py --teacher TEACHER.py --methods cwd pkd bpkd --trials 20 --out tuned
    densekd tune densekd::seg/cwd/digits.py --hours 2 --seeds 2 --out tuned
    densekd train tuned/best.py

The untaught student is trained first, then each method with its published weights, and with weights that are measured
(`balance='auto'`); then Optuna draws a method, the factor on its weights and that on its temperatures. Trials that fall
behind are stopped early. The test set is not read. The same command goes on where it was stopped, and with more trials
or hours it goes on from there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from densekd.cli._overrides import add_cfg_options, method_name
from densekd.mmlab.config import is_taught, override, read_config
from densekd.runs.tuning import tune
from kdlosses.cli.mistakes import one_sentence
from kdlosses.cli.parser import Parser
from kdlosses.cli.study import add_budget, add_range
from kdlosses.space import FACTORS, RATIOS, TEMPERATURES


@one_sentence()
def main(arguments: list[str] | None = None) -> None:
    """Run the trials that are missing, and print what was found."""
    parser = Parser(__doc__, "densekd tune")
    parser.add_argument("config", help="config of the student, or of a distiller; a path or pkg::path")
    parser.add_argument("--teacher", help="config of the teacher; 'ema', hf:FOLDER, lite0, module:name")
    parser.add_argument("--checkpoint", help="weights of the teacher, which is then not trained")
    parser.add_argument(
        "--teacher-cache", metavar="DIR", help="folder of the teacher's outputs, which all trials share"
    )
    parser.add_argument(
        "--methods", nargs="+", type=method_name, metavar="METHOD", help="default: what CONFIG is taught by"
    )
    add_budget(parser)
    parser.add_argument("--metric", help="that decides (default: save_best of CONFIG, or the evaluator's first)")
    parser.add_argument("--lower", action="store_true", help="less of the metric is better")
    for name, default, what in (
        ("--factor", FACTORS, "of the factor on the weights of a method"),
        ("--ratio", RATIOS, "of its pull to the task's, where weights are measured"),
        ("--temperature", TEMPERATURES, "of the factor on the temperatures of its losses"),
    ):
        add_range(parser, name, default[:2], what)
    parser.add_argument("--out", type=Path, required=True, help="folder of the study, to go on in it, too")
    add_cfg_options(parser)
    args = parser.parse_args(arguments)
    config = override(read_config(args.config), args.cfg_options)
    if not is_taught(config) and not (args.teacher and args.methods):
        parser.error(f"{args.config} names no densekd.Distiller: give --teacher and --methods")
    if args.teacher == "ema" and args.checkpoint:
        parser.error("--teacher ema is the student's own average, it takes no --checkpoint")
    found = tune(
        config,
        args.teacher,
        args.methods,
        checkpoint=args.checkpoint,
        trials=args.trials,
        hours=args.hours,
        seeds=args.seeds,
        metric=args.metric,
        greater=not args.lower,
        factors=(*args.factor, True),
        ratios=(*args.ratio, True),
        temperatures=(*args.temperature, True),
        pruner=args.pruner,
        teacher_cache=args.teacher_cache,
        out=args.out,
        tick=lambda said: print(said, file=sys.stderr, flush=True),
    )
    print(found)

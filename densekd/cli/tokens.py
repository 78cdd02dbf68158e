"""Learn the receptive tokens of a teacher, for `dict(type='maskd', learned=FILE)`, or its frequency prompts.

    densekd tokens TEACHER.py --checkpoint teacher.pth --tap neck:0 neck:1 --out tokens
    densekd tokens TEACHER.py --checkpoint teacher.pth --tap neck:0 neck:1 --out prompts --frequency

Prompts are for `method=dict(type='freekd', learned='prompts')`.

Each tap gets a file `tokens/<tap>.safetensors`, with a dot in place of each colon. The config's own training data and
losses are used; the teacher stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch

from densekd import build_model, control, load_weights, read_config
from densekd.losses.frequency_prompts import FrequencyPrompts
from densekd.losses.receptive_tokens import ReceptiveTokens
from kdlosses.cli.mistakes import place_to_write
from kdlosses.cli.parser import Parser


def main(arguments: list[str] | None = None) -> None:
    """Build the teacher and its data, learn, write."""
    parser = Parser(__doc__, "densekd tokens")
    parser.add_argument("config", help="config of the teacher; a path or pkg::path")
    parser.add_argument("--checkpoint", required=True, help="its weights")
    parser.add_argument("--tap", nargs="+", help="where (default: each level of the default features)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    parser.add_argument("--tokens", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=2000)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--equal", action="store_true", help="all tokens count the same")
    parser.add_argument("--frequency", action="store_true", help="prompts on the bands of a wavelet transform (FreeKD)")
    parser.add_argument("--levels", type=int, help="of the transform (default: 3)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    args = parser.parse_args(arguments)
    if args.frequency and args.equal:
        parser.error("--equal is for receptive tokens: frequency prompts have no shares")
    if args.levels is not None and not args.frequency:
        parser.error("--levels is for frequency prompts: give --frequency, too")
    levels_of_transform = 3 if args.levels is None else args.levels
    for option, value in (("tokens", args.tokens), ("iterations", args.iterations), ("levels", levels_of_transform)):
        if value < 1:
            parser.error(f"--{option} must be at least 1")
    if not 0 < args.lr < math.inf:
        parser.error("--lr must be a positive number")
    place_to_write(args.out, new=False)

    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner, set_random_seed

    from densekd.methods.levels import levels
    from densekd.receptive import learn_prompts, learn_tokens

    set_random_seed(args.seed)  # pipelines draw from NumPy's generator as well
    config = control(read_config(args.config))
    if not config.get("train_dataloader"):
        raise ValueError(f"config {args.config} has no train_dataloader: there is nothing to learn from")
    model, _ = build_model(config)
    load_weights(model, args.checkpoint)
    if torch.cuda.is_available():
        model.cuda()
    with DefaultScope.overwrite_default_scope(config.get("default_scope")):
        taps = args.tap or [entry["teacher"] for entry in levels(model, model, "tokens")]
        paths = {tap: args.out / f"{tap.replace(':', '.')}.safetensors" for tap in taps}
        there = [path for path in paths.values() if path.exists()]
        if there and not args.force:
            raise FileExistsError(f"{there[0]} exists: --force replaces it, --out writes to another folder")
        batches = Runner.build_dataloader(config.train_dataloader, seed=args.seed)
        common = dict(tokens=args.tokens, lr=args.lr, iterations=args.iterations)
        learned: Mapping[str, ReceptiveTokens | FrequencyPrompts]
        if args.frequency:
            learned = learn_prompts(model, batches, taps, levels=levels_of_transform, **common)
        else:
            learned = learn_tokens(model, batches, taps, weigh=not args.equal, **common)
    for tap, tokens in learned.items():
        tokens.cpu().save(paths[tap])
        print(paths[tap])

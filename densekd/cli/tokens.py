"""Learn the receptive tokens of a teacher, for `dict(type='maskd', learned=FILE)`, or its frequency prompts.

    densekd tokens TEACHER.py --checkpoint teacher.pth --tap neck:0 neck:1 --out tokens
    densekd tokens TEACHER.py --checkpoint teacher.pth --tap neck:0 neck:1 --out prompts --frequency

Prompts are for `method=dict(type='freekd', learned='prompts')`.

Each tap gets a file `tokens/<tap>.safetensors`, with a dot in place of each colon. The config's own training data and
losses are used; the teacher stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from densekd import build_model, control, load_weights, read_config
from densekd.losses.frequency_prompts import FrequencyPrompts
from densekd.losses.receptive_tokens import ReceptiveTokens
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
    parser.add_argument("--levels", type=int, default=3, help="of the transform")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if args.frequency and args.equal:
        parser.error("--equal is for receptive tokens: frequency prompts have no shares")
    for option in ("tokens", "iterations", "levels"):
        if getattr(args, option) < 1:
            parser.error(f"--{option} must be at least 1")

    from mmengine.registry import DefaultScope
    from mmengine.runner import Runner

    from densekd.methods.levels import levels
    from densekd.receptive import learn_prompts, learn_tokens

    torch.manual_seed(args.seed)
    config = control(read_config(args.config))
    if not config.get("train_dataloader"):
        raise ValueError(f"config {args.config} has no train_dataloader: there is nothing to learn from")
    model, _ = build_model(config)
    load_weights(model, args.checkpoint)
    if torch.cuda.is_available():
        model.cuda()
    with DefaultScope.overwrite_default_scope(config.get("default_scope")):
        batches = Runner.build_dataloader(config.train_dataloader, seed=args.seed)
        taps = args.tap or [entry["teacher"] for entry in levels(model, model, "tokens")]
        common = dict(tokens=args.tokens, lr=args.lr, iterations=args.iterations)
        learned: Mapping[str, ReceptiveTokens | FrequencyPrompts]
        if args.frequency:
            learned = learn_prompts(model, batches, taps, levels=args.levels, **common)
        else:
            learned = learn_tokens(model, batches, taps, weigh=not args.equal, **common)
    args.out.mkdir(parents=True, exist_ok=True)
    for tap, tokens in learned.items():
        path = args.out / f"{tap.replace(':', '.')}.safetensors"
        tokens.cpu().save(path)
        print(path)

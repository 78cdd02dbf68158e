"""Teach a backbone on a folder of images without labels, by networks that others trained.

    densekd pretrain STUDENT.py --teacher lite2 --images photos --out pretrained
    densekd pretrain my_package:backbone --teacher hf:dinov2-folder lite2 --images photos --out pretrained
    densekd pretrain STUDENT.py --masked mae --images photos --out rebuilt
    densekd pretrain SMALL.py --masked g2sd --teacher rebuilt --images photos --out generic

It leaves `backbone.pth` for a config of OpenMMLab (`load_from`, or `init_cfg` of the backbone with
`prefix='backbone.'`), `backbone.safetensors` for others, and `backbone.json`, which says how it was made.

With `--masked` most patches are hidden: `mae` rebuilds them, without a teacher; `dmae` also learns what teachers yield
for the visible ones; `further` does so from what it became itself, from where it started; `g2sd` learns from the
decoder of what `--masked mae` left in a folder, the generic stage of a student that `densekd train --method g2sd` ends.
"""

from __future__ import annotations

import argparse
import json
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from kdlosses.cli.mistakes import place_to_write, positive, whole
from kdlosses.cli.parser import Parser


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__, "densekd pretrain")
    parser.add_argument("student", help="a config, of whose model the backbone learns, or module:name of a function")
    parser.add_argument(
        "--teacher",
        nargs="+",
        default=[],
        help="hf:FOLDER_OR_NAME of transformers; lite0, lite1, lite2 (EfficientNet-Lite); module:name of a function; "
        "with --masked g2sd the folder of a training with --masked mae",
    )
    parser.add_argument("--masked", choices=("mae", "dmae", "g2sd", "further"), help="hide most patches of the images")
    parser.add_argument("--hidden", type=positive, help="with --masked: share of the patches (default: 0.75)")
    parser.add_argument("--patch", type=whole(1), help="with --masked: side of a hidden square in pixels")
    parser.add_argument("--images", type=Path, required=True, help="folder, with those below it")
    parser.add_argument("--match", nargs="+", metavar="PATTERN", help="names of files to use, such as '0016E5_*'")
    parser.add_argument("--out", type=Path, required=True, help="folder for the backbone and the state of the training")
    parser.add_argument("--steps", type=whole(1), default=1000)
    parser.add_argument("--batch", type=whole(1), default=16)
    parser.add_argument("--size", type=whole(1), nargs=2, default=[224, 224], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--lr", type=positive, default=1e-3)
    parser.add_argument("--loss", default="mse", help="of features, one of kdlosses")
    parser.add_argument("--held-out", type=positive, default=0.1, help="share of the images for validation")
    parser.add_argument("--every", type=whole(1), default=100, help="steps between validations")
    parser.add_argument("--seed", type=whole(0), default=0)
    parser.add_argument("--workers", type=whole(0), default=0, help="processes that read images")
    parser.add_argument("--amp", action="store_true", help="bfloat16")
    parser.add_argument("--device", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--from-scratch", action="store_true", help="without the weights that the config names, unfrozen"
    )
    parser.add_argument("--skip-broken", action="store_true", help="leave out images that cannot be read")
    again = parser.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on with the training in --out")
    again.add_argument("--overwrite", action="store_true", help="replace the training in --out")
    args = parser.parse_args(arguments)
    if bool(args.teacher) == (args.masked in ("mae", "further")):
        parser.error("--teacher is missing" if not args.teacher else f"--masked {args.masked} has no --teacher")
    for option in ("hidden", "patch"):
        if getattr(args, option) is not None and not args.masked:
            parser.error(f"--{option} goes with --masked")
    if args.masked and args.loss != "mse":
        parser.error(f"--loss goes without --masked: {args.masked} has its own")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Build student and teachers, check the images, train, write."""
    args = parse(arguments)

    import torch

    from densekd.hub.files import MMENGINE, PLAIN, SIDECAR, write_backbone
    from densekd.hub.images import broken_images, find_images, held_out
    from densekd.hub.masked import MaskedPretraining, further
    from densekd.hub.pretrain import STATE, Pretraining
    from densekd.hub.ready import features_of
    from kdlosses.cli.logs import commit, versions

    state = place_to_write(args.out, new=False) / STATE
    left = [path for path in (state, *(args.out / name for name in (MMENGINE, PLAIN, SIDECAR))) if path.exists()]
    if left and not (args.resume or args.overwrite):
        again = "--resume goes on with it, " if state.exists() else ""
        raise FileExistsError(f"{left[0]} is of an earlier training: {again}--overwrite replaces it")
    if args.resume and not state.exists():
        raise FileNotFoundError(f"there is no {state} to resume from")
    for name in {*args.teacher}:
        if args.teacher.count(name) > 1:
            raise ValueError(f"the teacher {name} is named twice")
    torch.manual_seed(args.seed)
    student = student_of(args.student, args.from_scratch)
    guide = guide_of(args.teacher) if args.masked == "g2sd" else None
    teachers = {} if guide else {name.replace(".", "_"): features_of(name) for name in args.teacher}
    images = find_images(args.images)
    if args.match:
        images = [path for path in images if any(fnmatch(path.name, pattern) for pattern in args.match)]
        if not images:
            raise FileNotFoundError(f"no image in {args.images} is called {' or '.join(args.match)}")
    broken = broken_images(images, max(1, args.workers))
    for said in broken.values():
        print(said)
    if broken and not args.skip_broken:
        raise ValueError(f"{len(broken)} of {len(images)} images cannot be read: mend them, or give --skip-broken")
    images = [path for path in images if path not in broken]
    learn, validate = held_out(images, args.held_out)
    options: dict[str, Any] = dict(
        steps=args.steps,
        batch=args.batch,
        size=tuple(args.size),
        rate=args.lr,
        loss=args.loss,
        share=args.held_out,
        seed=args.seed,
        workers=args.workers,
        amp=args.amp,
        device=args.device,
    )
    hiding = dict(hidden=0.75 if args.hidden is None else args.hidden, patch=args.patch)
    if args.masked is None:
        training = Pretraining(student, teachers, images, **options)
    elif args.masked != "further":
        training = MaskedPretraining(student, teachers, images, kind=args.masked, guide=guide, **hiding, **options)
    if args.resume and args.masked != "further":
        training.resume(state)
    frozen = sum(weight.numel() for weight in student.network.parameters() if not weight.requires_grad)
    print(f"{'student':<10}{student.told()}{f'; {frozen:,} of them frozen, as its config says' if frozen else ''}")
    for each in teachers.values():
        print(f"{'teacher':<10}{each.told()}")
    if guide is not None:
        print(f"{'guide':<10}{guide.features.told()}, with its decoder")
    print(f"{'images':<10}{len(learn)} to learn from, {len(validate)} held out", flush=True)
    start = time.perf_counter()
    try:
        if args.masked == "further":
            told = dict(every=args.every, say=_say, resume=args.resume)
            training = further(student, images, args.out, **told, **hiding, **options)
        else:
            training.run(args.out, args.every, _say)
    except KeyboardInterrupt:
        again = " with --resume goes on from the last validation" if state.exists() else " begins anew"
        raise SystemExit(f"interrupted; the same command{again}") from None
    pixels = student.data_preprocessor
    facts: dict[str, Any] = dict(student=args.student, **training.plan, history=training.history)
    facts |= dict(mean=pixels.mean.flatten().tolist(), std=pixels.std.flatten().tolist())
    facts |= dict(rgb=pixels._channel_conversion, skipped=[path.name for path in broken])
    facts |= dict(seconds=round(time.perf_counter() - start, 1), versions=versions("torch", "transformers"))
    facts |= dict(commit=commit())
    write_backbone(args.out, student.network, facts)
    print(f"{'weights':<10}{args.out / MMENGINE}")


def _say(line: str) -> None:
    print(line, flush=True)


def guide_of(folders: list[str]) -> Any:
    """The masked auto-encoder that `--masked mae` left in a folder, as the guide of `--masked g2sd`.

    Raises:
        FileNotFoundError: there is none.
        ValueError: several folders, or a training of another kind.
    """
    from densekd.hub.files import SIDECAR
    from densekd.hub.masked import autoencoder

    if len(folders) > 1:
        raise ValueError(f"--masked g2sd has one teacher, got {len(folders)}")
    folder = Path(folders[0])
    if not (folder / SIDECAR).exists():
        raise FileNotFoundError(
            f"{folder} has no {SIDECAR}: --masked g2sd learns from what --masked mae left in a folder"
        )
    facts = json.loads((folder / SIDECAR).read_text(encoding="utf-8"))
    return autoencoder(student_of(facts["student"], from_scratch=True), folder)


def student_of(source: str, from_scratch: bool = False) -> Any:
    """Return the backbone of a config's model, initialised, or what `module:name` returns, as `Features`.

    Raises:
        ValueError: the config's model has no backbone.
    """
    from densekd.hub.features import Features
    from densekd.hub.ready import features_of

    if ":" in source.replace("::", ""):
        return features_of(source)

    from mmengine.logging import MMLogger
    from mmengine.model import revert_sync_batchnorm

    from densekd import build_model, control, read_config
    from densekd.sensors.normalisation import Normalisation

    config = control(read_config(source))
    if not isinstance(config.model.get("backbone"), dict):
        raise ValueError(f"the model of {source} has no backbone to teach")
    if from_scratch:
        config.model["backbone"].update(init_cfg=None)
        for key, free in (("frozen_stages", -1), ("norm_eval", False), ("pretrained", None)):
            if key in config.model["backbone"]:
                config.model["backbone"][key] = free
    model: Any = revert_sync_batchnorm(build_model(config)[0])
    if hasattr(model.backbone, "init_weights"):
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel("WARNING")  # else it names every parameter
        model.backbone.init_weights()
        logger.setLevel(level)
    pixels = Normalisation.of(model.data_preprocessor)
    if pixels is None:
        raise ValueError(f"the data_preprocessor of {source} is not one of images: its backbone cannot learn from them")
    mean, std = (list(each) * 3 if len(each) == 1 else list(each) for each in (pixels.mean, pixels.std))
    return Features(source, model.backbone, mean, std, pixels.swapped)

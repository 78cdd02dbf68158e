"""Embed what may be said of objects: `python tools/embed_sentences.py --model FOLDER --classes car,truck --out FILE`.

The file is the table of a teacher `densekd.Sentences`, see the method `omniscene`: a vector under each sentence that
`densekd.bev.texts.describe` may say of objects of these classes. The model is an encoder or a causal model of
transformers, by folder or by the name under which it lies in the hub's cache; nothing is fetched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from texts import listed

from densekd.bev.texts import sentences, write
from graphkd.text import LanguageModel


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder, or name in the hub's cache")
    parser.add_argument("--classes", required=True, help="what they are called, 'car,truck,...'")
    parser.add_argument(
        "--out", type=Path, required=True, help="the file, .safetensors; one that exists is not replaced"
    )
    args = parser.parse_args(arguments)
    if args.out.exists():
        raise SystemExit(f"{args.out} exists: take another name, or delete it")
    try:
        model = LanguageModel.load(args.model)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error.args[0])) from error
    said = sentences(listed(args.classes))
    vectors, _ = model.read(model.padded(model.ids(said)))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, dict(zip(said, vectors.float())))
    print(f"{len(said)} sentences, {vectors.shape[1]} wide: {args.out}")


if __name__ == "__main__":
    main()

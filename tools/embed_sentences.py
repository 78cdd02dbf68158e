"""Embed what may be said of objects: `python tools/embed_sentences.py --model FOLDER --classes car,truck --out FILE`.

The file is the table of a teacher `densekd.Sentences`, see the method `omniscene`: a vector under each sentence that
`densekd.bev.texts.describe` may say of objects of these classes. The model is an encoder or a causal model of
transformers, by folder or by the name under which it lies in the hub's cache; nothing is fetched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from graphkd.cli._texts import listed
from kdlosses.cli.mistakes import one_sentence, place_to_write

with one_sentence():
    from densekd.bev.texts import sentences
    from densekd.texts import write
    from graphkd.text import LanguageModel


@one_sentence()
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
    if args.out.suffix != ".safetensors":
        raise SystemExit(f"{args.out}: the name of the file ends in .safetensors")
    place_to_write(args.out.parent, new=False)
    said = sentences(listed(args.classes))
    model = LanguageModel.load(args.model)
    before, after = ([], []) if model.pool == "mean" else model.wrap  # a special token stands for the sentence there
    asked = [[*before, *ids, *after] for ids in model.ids([model.prompt + sentence for sentence in said])]
    if len(max(asked, key=len)) > model.context:
        raise SystemExit(f"the model reads {model.context} tokens, a sentence has {len(max(asked, key=len))}")
    vectors, _ = model.read(model.padded(asked))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write(args.out, dict(zip(said, vectors.float())))
    print(f"{len(said)} sentences, {vectors.shape[1]} wide: {args.out}")


if __name__ == "__main__":
    main()

"""The tools that let language models read texts: every mistake in a call ends in one sentence."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import embed_sentences
import pytest

from densekd.bev.sentences import Sentences
from graphkd.cli import embed as embed_text
from graphkd.cli import finetune as finetune_text
from kdlosses.cli.mistakes import one_sentence, place_to_write

ROOT = Path(__file__).parents[2]
WORDS = ["river", "stone", "wind", "granite", "flows", "bank", "quartz", "gust", "breeze"]
NODES = 30


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, save_model: Callable[..., Path]) -> Path:
    """Tables of a graph, an encoder and a causal model."""
    root = tmp_path_factory.mktemp("world")
    texts = [" ".join(WORDS[(k + j) % 9] for j in range(5)) for k in range(NODES)]
    rows = [{"id": k, "text": text, "label": "ab"[k % 2]} for k, text in enumerate(texts)]
    (root / "n.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parts = [{**row, "split": ["train", "val", "test"][k % 3]} for k, row in enumerate(rows)]
    (root / "split.jsonl").write_text("".join(json.dumps(row) + "\n" for row in parts))
    edges = [{"source": k, "target": (k + 1) % NODES} for k in range(NODES)]
    (root / "e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in edges))
    (root / "file").write_text("something")
    save_model(root / "encoder", texts, encoder=True)
    save_model(root / "causal", [*texts, "rule learning"])
    (root / "empty").mkdir()
    return root


def call(world: Path, place: Path, options: str, **changed: Any) -> list[str]:
    """Arguments of a call that is right but for `options`, which come last, and `changed`; `{}` is the world."""
    base = dict(graph="{}/n.jsonl", edges="{}/e.jsonl", model="{}/encoder", budget="40", out=str(place), split="shares")
    base |= changed
    graph = base.pop("graph")
    found = [graph, *(part for name, value in base.items() if value is not None for part in (f"--{name}", value))]
    return [each.replace("{}", str(world)) for each in [*found, *options.split()]]


NUMBERS = ["--hops -1", "--hops two", "--budget 0", "--budget -3", "--neighbours 0", "--seed -1", "--seed 1.5"]
BOTH: list[tuple[str, dict[str, Any], str]] = [
    *((each, {}, f"argument {each.split()[0]}: expected a whole number") for each in NUMBERS),
    ("", dict(edges=None), "is a table of nodes: name the table of edges, too, by --edges"),
    ("", dict(graph="cane_cora"), "is a graph by name and has its own edges: leave out --edges"),
    ("", dict(graph="digits", edges=None, split=None), "the graph has no texts"),
    ("", dict(graph="cane_coar", edges=None), "no graph is called 'cane_coar'; did you mean 'cane_cora'"),
    ("", dict(graph="{}/none.csv"), "none.csv does not exist"),
    ("", dict(graph="{}/file"), "a table is one of .csv, .jsonl, .parquet"),
    ("", dict(edges="{}/none.csv"), "none.csv does not exist"),
    ("", dict(edges="{}/n.jsonl"), "there is no column 'source'"),
    ("", dict(model="no/such-model"), "there is no language model 'no/such-model'"),
    ("", dict(model="{}/empty"), "config.json is missing, found nothing"),
    ("", dict(model="{}/n.jsonl"), "is a file; pass the folder"),
    ("", dict(budget="4"), "a budget of 4 tokens leaves 2 for texts"),
    ("", dict(budget="4000"), "prompts of 4000 tokens"),
    ("--labels one,two,three", {}, "--labels has 3 names, there are 2 classes"),
    ("--labels one,", {}, "expected names with commas between them"),
    ("--device cuda:99", {}, "there is no device 'cuda:99' here"),
    ("--device nonsense", {}, "there is no device 'nonsense' here"),
    ("--dtype int8", {}, "argument --dtype: invalid choice"),
    ("--split thirds", {}, "argument --split: invalid choice"),
    ("--nonsense 1", {}, "unrecognized arguments: --nonsense"),
    ("", dict(out="{}/file"), "file (is a file|exists); choose another folder"),
    ("", dict(out="{}/file/inside"), "file/inside cannot be written"),
    ("", dict(out="/proc/none/inside"), "/proc/none/inside cannot be written"),
]
EMBED: list[tuple[str, dict[str, Any], str]] = [
    *((f"--{name} 0", {}, f"argument --{name}: expected a whole number from 1") for name in ("shard", "batch-tokens")),
    ("--explain -1", {}, "argument --explain: expected a whole number from 0"),
    ("--explain 8", {}, "explanations are written by a causal language model, about labels in words"),
    ("--explain 300 --labels one,two", dict(model="{}/causal", budget="120"), "answers of 300 are more than the 128"),
    ("--pool max", {}, "argument --pool: invalid choice"),
    ("--setting all", {}, "argument --setting: invalid choice"),
    ("--setting ind", dict(split=None), "class 0 has 15 nodes; .*pass --split shares, or write the column 'split'"),
    ("--estimate --measure", {}, "not allowed with argument"),
    ("--explanations {}/none", {}, "none is no teacher cache"),
    ("--labels a,a", {}, "the labels 'a' and 'a' are the same tokens"),
]
FINETUNE: list[tuple[str, dict[str, Any], str]] = [
    *((f"--{n} 0", {}, f"argument --{n}: expected a whole number from 1") for n in ("rank", "epochs", "batch-size")),
    *((f"--lr {each}", {}, "argument --lr: expected a number above 0") for each in ("0", "-1", "nan", "inf", "fast")),
    ("--layers 0", {}, "argument --layers: expected a whole number from 1"),
    ("--layers 9", {}, "has 2 layers; layers must be from 1 to 2, got 9"),
    ("", dict(split=None), "class 0 has 15 nodes; .*pass --split shares, or write the column 'split'"),
    ("", dict(model="{}/causal", budget="100"), "fine-tuned on labels in words: 0 given, 2 classes"),
    ("", dict(out="{}/empty"), "empty exists; choose another folder, or remove it"),
    ("--align {}/none", dict(split=None), "none is no teacher cache"),
    ("--align {}/none --labels a,b", dict(split=None), "reads no label: leave out --labels and --split"),
]


@pytest.mark.parametrize(
    ("tool", "options", "changed", "message"),
    [
        *(("embed", *case) for case in [*BOTH, *EMBED]),
        *(("finetune", *case) for case in [*BOTH, *FINETUNE]),
    ],
)
def test_a_mistake_in_a_call_ends_in_one_sentence(
    world: Path, tmp_path: Path, capsys: Any, tool: str, options: str, changed: dict[str, Any], message: str
) -> None:
    main = {"embed": embed_text, "finetune": finetune_text}[tool].main
    before = sorted(world.rglob("*"))
    with pytest.raises(SystemExit) as ended:
        main(call(world, tmp_path / "out", options, **changed))
    said = capsys.readouterr().err.strip().splitlines()[-1] if ended.value.code == 2 else str(ended.value.code)
    assert re.search(message, said), said
    assert "\n" not in said
    assert "range()" not in said
    assert not (tmp_path / "out").exists()
    assert sorted(world.rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model {}/empty --classes car --out {}/t.safetensors", "config.json is missing"),
        ("--model {}/encoder --classes , --out {}/t.safetensors", "expected names with commas between them"),
        (
            "--model {}/encoder --classes car,car --out {}/t.safetensors",
            "classes must be distinct names that are not empty",
        ),
        ("--model {}/encoder --classes car --out {}/file", "exists: take another name"),
        ("--model {}/encoder --classes car --out {}/t.npz", "the name of the file ends in .safetensors"),
        ("--model {}/encoder --classes car --out {}/file/t.safetensors", "file is a file; choose another"),
    ],
)
def test_mistakes_about_sentences_end_in_one_sentence(world: Path, options: str, message: str) -> None:
    with pytest.raises(SystemExit, match=message) as ended:
        embed_sentences.main(options.replace("{}", str(world)).split())
    assert "\n" not in str(ended.value.code)
    assert not (world / "t.safetensors").exists()


def test_a_teacher_of_sentences_is_checked_before_the_training(world: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.safetensors"
    embed_sentences.main(["--model", str(world / "encoder"), "--classes", "car,tram", "--out", str(table)])
    assert Sentences(table, ["tram"]).table.channels == 32
    with pytest.raises(TypeError, match="nearly"):
        Sentences(table, ["tram"], nearly=3)
    with pytest.raises(ValueError, match="front must be 'x' or 'y', got 'z'"):
        Sentences(table, ["tram"], front="z")
    with pytest.raises(ValueError, match="classes must be distinct names"):
        Sentences(table, [])


def test_right_calls_still_run(world: Path, tmp_path: Path, capsys: Any) -> None:
    embed_text.main(call(world, tmp_path / "c", "--setting ind --hops 0", graph="{}/split.jsonl", split=None))
    embed_text.main(call(world, tmp_path / "s", "--setting ind --hops 0 --shard 7"))
    finetune_text.main(call(world, tmp_path / "t", "--hops 0", graph="{}/split.jsonl", split=None))
    finetune_text.main(call(world, tmp_path / "a", f"--hops 0 --align {tmp_path / 's'}", split=None))
    assert capsys.readouterr().out.count("loss of each epoch: ") == 2


def test_without_the_extra_the_tools_name_it(tmp_path: Path) -> None:
    """In a process of its own, where transformers cannot be imported."""
    (tmp_path / "transformers.py").write_text("raise ModuleNotFoundError('none', name='transformers')")
    path = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]"
    code = f"{path}; from graphkd.cli import finetune"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == "graphkd.text needs transformers: pip install graphdensekd[lm]"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("no such 'name'"), "no such 'name'"),
        (ValueError("two\n  lines"), "two lines"),
        (ValueError(), "ValueError"),
        (FileNotFoundError(2, "No such file or directory", "/x/y"), "/x/y: No such file or directory"),
        (OSError(28, "/x was not written: free some space"), "/x was not written: free some space"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "'utf-8' codec can't decode byte 0xff"),
        (ModuleNotFoundError("No module named 'tqdm'", name="tqdm"), "there is no package 'tqdm' here"),
        (FloatingPointError("the loss is nan"), "the loss is nan"),
    ],
)
def test_one_sentence_is_what_the_error_says(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as ended, one_sentence():
        raise error
    assert str(ended.value.code).startswith(message) or message in str(ended.value.code)
    assert "\n" not in str(ended.value.code)
    monkeypatch.setenv("KD_TRACEBACK", "1")
    with pytest.raises(type(error)), one_sentence():
        raise error
    with pytest.raises(AttributeError), one_sentence():
        raise AttributeError("a fault of ours is no mistake in a call")


def test_a_place_to_write_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert place_to_write(tmp_path / "there", new=False) == tmp_path / "there"
    assert place_to_write(tmp_path / "a" / "b", new=True) == tmp_path / "a" / "b"
    assert [each.name for each in tmp_path.rglob("*")] == ["there"]

"""Pages that are made while the site is built: of docstrings, of configs, of result logs, and of CONTRIBUTING.md.

Nothing of them is committed, so nothing of them can be out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import ablations  # noqa: E402
import systems  # noqa: E402
from mkdocs.structure.files import File, Files, InclusionLevel  # noqa: E402

import densekd.losses  # noqa: E402  registers the losses that need maps
import graphkd.rules  # noqa: E402
import kdlosses.rules  # noqa: E402
from densekd.methods import METHODS  # noqa: E402
from densekd.pairs import ROWS  # noqa: E402
from densekd.policies import POLICIES  # noqa: E402
from graphkd.links.recipes import LINK_RECIPES  # noqa: E402
from graphkd.recipes import RECIPES  # noqa: E402
from graphkd.recommendation.recipes import RECOMMENDATION_RECIPES  # noqa: E402
from graphkd.scenes.methods import SCENE_METHODS  # noqa: E402
from graphkd.teachers import TEACHERS  # noqa: E402
from graphkd.unlearning.methods import UNLEARNERS  # noqa: E402
from kdlosses.cli.logs import read  # noqa: E402
from kdlosses.cli.report import table  # noqa: E402

KINDS = {
    "logit": "Losses on class logits.",
    "feature": "Losses on features, one position at a time or one channel at a time.",
    "relation": "Losses on how positions relate to each other.",
    "contrastive": "Losses that tell a pair from other pairs.",
    "policy": "Losses around another loss: when, how much and from which teacher.",
    "graph": "Losses that read edges.",
    "dense": "Losses that read maps: label maps, boxes, masks, neighbours in the plane.",
}
RESULTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "gnn-to-mlp": (
        "From a graph network to an MLP",
        "Test accuracy of students that see features alone, over ten splits, of `tined` five, beside their teacher, an "
        "untaught student (control) and GLNN. Δ columns are paired by seed. The last tables show what features alone "
        "tell of a node without edges, see `benchmarks/cold_start.py`: a support vector machine learns the true labels "
        "of all nodes that a teacher sees, another one those that a student has. Both are tested on unseen nodes. The "
        "first is about the best that a student of features can reach at a cold start.",
        tuple(f"graph/refined_teacher-{name}.json" for name in ("cora", "citeseer", "photo", "computers"))
        + tuple(f"graph/vqgraph-{name}.json" for name in ("cora", "citeseer", "photo", "computers"))
        + ("graph/tined-cora.json", "graph/cold_start-cora.json", "graph/cold_start-citeseer.json"),
    ),
    "default": (
        "The default on graphs",
        "Test accuracy of students of the default method, `glnn`, beside `ffg2m` and `refined_teacher` with their own "
        "defaults, after a short schedule. Graphs called hubs are drawn by `graphkd.data.hubs`. Δ columns are paired "
        "by seed.",
        (
            *(f"graph/default_share-{name}.json" for name in ("cora", "citeseer", "cane_cora", "computers", "photo")),
            *(f"graph/default_share-{name}.json" for name in ("hubs", "hubs_strong", "hubs_16k")),
            *(f"graph/default_refined_teacher-{name}.json" for name in ("cora", "hubs")),
        ),
    ),
    "text-graphs": (
        "Graphs of texts",
        "Test accuracy on CANE-Cora where a language model teaches a graph network, or an MLP, over ten splits. A "
        "reference is a graph network trained under the same schedule that teaches no other.",
        tuple(
            f"graph/{name}.json"
            for name in (
                *("lingugkd-cane_cora", "lingugkd-cane_cora_shares", "lingugkd_sgc-cane_cora"),
                *("lingugkd_sgc-cane_cora_shares", "glem-cane_cora", "glem-cane_cora_shares"),
                *("tape_encoder-cane_cora", "tape_encoder-cane_cora_shares", "annotator-cane_cora"),
            )
        ),
    ),
    "large-graphs": (
        "Large graphs",
        "A teacher trained on sampled neighbourhoods, applied layer by layer, and students that learn from its cache, "
        "on drawn graphs up to the size of ogbn-products, one seed; see `benchmarks/big_graph.py`. Seconds are of the "
        "training steps, one thread on a machine with other work.",
        ("big/share-0.0625.json", "big/share-0.25.json", "big/share-1.json"),
    ),
    "clients": (
        "Clients that keep their data",
        "Accuracy of five clients with unequal parts of the digits graph, each on its own test nodes: mean over the "
        "clients, sample standard deviation between them, and the worst; and megabytes that all of them sent and got. "
        "The control is each client alone. Clients are unlike in the first table (concentration 0.3 of the Dirichlet "
        "distribution) and alike in the second (100). Over three seeds.",
        ("graph/federated-digits.json", "graph/federated-digits_alike.json"),
    ),
    "condensed": (
        "Condensed sets of graphs",
        "Area under the ROC curve and accuracy of networks on whole test graphs, trained on frequent sets of "
        "computation trees (`mirage`), on random graphs up to the same bytes (control) and on all training graphs "
        "(reference), with the same number of steps. kB are those of what they were trained on, integers in as few "
        "bytes as hold them. Each seed is a split; 19 graphs of MUTAG and 100 of IMDB-BINARY are tested.",
        ("graph/condensed-mutag.json", "graph/condensed-imdb_binary.json"),
    ),
    "recommendation": (
        "Recommendation",
        "Recall and NDCG of full rankings of items, in percent, on pairs of users and items that are held out: "
        "LightGCN teaches a student of a fifth of its edges and a tenth of the entries of its embedding. The control "
        "is pruned to the same size by its own weights, without a teacher. First a drawn world of three tastes where a "
        "third of the pairs are mistakes, over three seeds, then artists of LastFM, one seed. Kilobytes are those of "
        "entries, edges and their weights in a file. Milliseconds are to spread the embeddings over the edges, after "
        "which they are dense again, and to rank all items for all users.",
        ("graph/lightgnn-blocks.json", "graph/lightgnn-lastfm.json"),
    ),
    "scenes": (
        "Actions and relations",
        "Of drawn videos in which a human passes a lamp: accuracy of the action, where a tenth of the videos to learn "
        "from has a label, by the graph of each frame (local), by the one of the whole video (global) and by the mean "
        "of both; then relations of entities in a frame: Recall@10, mean Recall@10 over predicates, and how often both "
        "directions of a pair get a predicate that holds (brc). The control is the same network without the idea: "
        "graphs that do not teach each other; pairs without an order, without the global interaction and without "
        "Attract & Repel. Over three seeds.",
        ("graph/scenes-passes_actions.json", "graph/scenes-passes_relations.json"),
    ),
    "unlearning": (
        "Networks that forget",
        "A GCN trained on links forgets 2.5 % of its edges, over two seeds. AUC_d, how often a retained edge scores "
        "above a deleted one; AUC_t, of test edges; MI ratio, how much less an attack finds of deleted edges; "
        "distance of the answers from those of the retrained network, per cent; weights, likewise of the parameters; "
        "millions of operations of a forward pass. The teacher is the trained network before the deletion, the control "
        "takes the edges out of its graph alone. A retrained network forgets as much as is due: an AUC_d far above its "
        "own is a trace, too. See `graphkd.unlearning.figures`; `gnndelete` has fewer and larger steps than published.",
        ("graph/unlearning-digits.json", "graph/unlearning-cora.json"),
    ),
    "other-tasks": (
        "Other tasks on graphs",
        "Students that need no graph, beside their teacher and an untaught student (control), over three splits. "
        "Several labels: which of the 20 most frequent words stand in a paper of Cora, from its other words; average "
        "precision. Whole graphs: accuracy on PROTEINS. Several kinds of nodes: accuracy of the classes of CANE-Cora's "
        "papers, whose teacher also reads their words as nodes. The first and the last task were derived from these "
        "data here, see `graphkd.data.other_tasks`.",
        ("tasks/cora_words.json", "tasks/proteins.json", "tasks/cane_cora_words.json"),
    ),
    "segmentation": (
        "Segmentation",
        "Mean IoU, and mean IoU of the pixels within three of an edge of the labels (bIoU), of small students after a "
        "short schedule, over three seeds, beside their teacher and an untaught student (control) under the same "
        "schedule. The runs of `camvid-pkd` are older than bIoU. Students start from random weights. The rows of "
        "`acam`, `mgd_semi`, `transkd_ea` and `hfd_bsd` on CamVid and scenes were made with earlier forms of these "
        "methods, see the changelog.",
        ("seg/camvid_fpn", "seg/camvid_mit", "seg/scenes_fpn", "seg/scenes_mit", "seg/camvid-pkd"),
    ),
    "losses": (
        "Losses that are no method of their own",
        "Mean IoU, and mean IoU of the pixels within three of an edge of the labels (bIoU), on scenes of digits, over "
        "three seeds, beside the untaught student (control). A loss on logits stands in place of `kl`, one on features "
        "beside it, as strong as the task; pixels of a class count as in the task. The second table has its own "
        "teacher, trained by the same config. There `average`, `mst_distill` and `mulki` learn from a deep teacher as "
        "well, and `dual_head`, `ofa`, `talking` and `uskd` are methods with a head.",
        ("seg/scenes_losses", "seg/scenes_teachers"),
    ),
    "measured-weights": (
        "Measured weights",
        "Mean IoU, and mean IoU of the pixels within three of an edge of the labels (bIoU), on scenes of digits of "
        "students whose losses are weighed by their gradients, `balance='auto'`, beside the untaught student "
        "(control), two seeds; all classes count alike there, as with `class_weight='equal'`. The same methods with "
        "their published weights stand in the table of scenes on the page on segmentation.",
        ("seg/scenes_balance",),
    ),
    "real-features": (
        "A teacher with ImageNet's features",
        "Mean IoU, and mean IoU of the pixels within three of an edge of the labels (bIoU), on the val frames of "
        "CamVid. Choices were made on held-out training frames, but that an earlier teacher was below the control was "
        "seen on these. The teacher is an EfficientNet-Lite0 with ImageNet's weights whose classes are "
        "balanced, the student a ResNet-18 of a quarter of the width, from scratch. Students read the teacher's "
        "outputs from a cache (`--teacher-cache`), and weights are measured. One seed of each method so far, three of "
        "the control. Latencies are of a busy machine, those of the students with channels last in memory. Classes of "
        "the student are not balanced; an untaught student with the teacher's weights of classes was better than this "
        "teacher in one run, so that the table says little: `seg/*/camvid_quarter` is to take its place.",
        ("seg/camvid_lite0",),
    ),
    "pytorch": (
        "Any PyTorch model",
        "Mean IoU of transformers' SegFormer on CamVid at 90 x 120, trained by `densekd.fit` without OpenMMLab, over "
        "three seeds, beside its teacher and the untaught student (control). All start from random weights.",
        ("plain/camvid_segformer",),
    ),
    "detection": (
        "Detection",
        "Average precision of a small detector of blood cells, over three seeds, beside its teacher and an untaught "
        "student (control).",
        ("det/bccd-pkd",),
    ),
    "detection-digits": (
        "Detection, all methods on small scenes",
        "Average precision on scenes of digits, over three seeds, of a one-stage detector (GFL) and of a two-stage one "
        "(Faster R-CNN), each beside its teacher and an untaught student (control). A row called auto has measured "
        "weights in place of the published ones.",
        ("det/digits_gfl", "det/digits_faster_rcnn"),
    ),
    "pretrained": (
        "Pre-trained without labels",
        "mIoU of a Semantic FPN that is fine-tuned on 20 labelled frames of CamVid, on a backbone that "
        "EfficientNet-Lite2 taught without labels, beside the same from scratch (control), over three seeds.",
        ("pretrain/camvid_few",),
    ),
    "birds-eye-view": (
        "Bird's-eye view",
        "Average precision on the ground, in a synthetic world of LiDAR and camera, of a student with one sensor "
        "taught by a detector with another.",
        tuple(
            f"bev/{name}"
            for name in (
                *("lidar_to_camera_world", "fusion_to_camera_world-unidistill", "fusion_to_lidar_world-unidistill"),
                *("camera_to_lidar_world-unidistill", "lidar_world-omniscene", "point_disco-lidar_world.json"),
                *("lidar_to_camera_kitti_frame-unidistill", "lidar_to_camera_nuscenes_frame-unidistill"),
            )
        ),
    ),
}
"""Result pages: title, a sentence that says what the tables show, and the logs under results/."""


GRAPH_RECIPES = {**RECIPES, **LINK_RECIPES, **RECOMMENDATION_RECIPES}
IN_MENU = ("reference/index.md", "systems.md", "results/index.md", "architecture.md")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made here."""
    for path, text in _pages():
        file = File.generated(config, path, content=text)
        if path not in IN_MENU:
            file.inclusion = InclusionLevel.NOT_IN_NAV  # found by the index pages and by search
        files.append(file)
    return files


def _pages() -> Iterator[tuple[str, str]]:
    named = _named_in_configs()
    losses = {key: loss for key, loss in kdlosses.LOSSES.items() if _kind(key) is not None}
    yield "reference/index.md", _reference(losses)
    for key, loss in losses.items():
        yield f"reference/losses/{key}.md", _loss_page(key, loss, named.get(("loss", key), ()))
    for what, parts in (
        ("recipes", GRAPH_RECIPES),
        ("methods", METHODS),
        ("policies", POLICIES),
        ("teachers", TEACHERS),
        ("unlearning", UNLEARNERS),
        ("scenes", SCENE_METHODS),
    ):
        for name, part in parts.items():
            yield f"reference/{what}/{name}.md", _part_page(name, part, named.get((what, name), ()))
    yield "reference/rules.md", _rules()
    yield "systems.md", _systems()
    yield "reference/api.md", _api()
    for name, (title, sentence, logs) in RESULTS.items():
        tables = "\n\n".join(_links(table(read(ROOT / "results" / path))) for path in logs)
        yield f"results/{name}.md", f"# {title}\n\n{sentence}\n\n{tables}\n"
    yield "results/index.md", _results()
    text = (ROOT / "CONTRIBUTING.md").read_text()
    yield "architecture.md", text.replace("# Contributing", "# Architecture, and how to contribute", 1)


# --- pages of parts ---------------------------------------------------------------------------------------------------


def _reference(losses: Mapping[str, Any]) -> str:
    lines = [
        "# Reference",
        "",
        "Every loss, recipe, method, policy, teacher and way to unlearn, made of its docstring. Also: "
        "[the Python interface](api.md), [rules that recipes and policies call](rules.md).",
        "",
    ]
    for title, what, parts in (
        ("Recipes: graph to student", "recipes", RECIPES),
        ("Recipes for links", "recipes", LINK_RECIPES),
        ("Recipes for recommendation", "recipes", RECOMMENDATION_RECIPES),
        ("Methods: segmenters and detectors", "methods", METHODS),
        ("Policies of a run: data, weights, students", "policies", POLICIES),
        ("Teachers on graphs", "teachers", TEACHERS),
        ("Ways to unlearn", "unlearning", UNLEARNERS),
        ("Methods: actions and relations of entities", "scenes", SCENE_METHODS),
    ):
        lines += [f"## {title}", "", *_listed(what, parts)]
    for kind, sentence in KINDS.items():
        chosen = {key: loss for key, loss in losses.items() if _kind(key) == kind}
        lines += [f"## Losses: {kind}", "", sentence, "", *_listed("losses", chosen)]
    return "\n".join(lines)


def _listed(what: str, parts: Mapping[str, Any]) -> list[str]:
    rows = [
        f"| [`{name}`]({what}/{name}.md) | {_cell(summary(part))} | {paper(part)} |"
        for name, part in sorted(parts.items())
    ]
    return [
        '<div class="wrap" markdown>',
        "",
        "| name | what it does | paper |",
        "| --- | --- | --- |",
        *rows,
        "",
        "</div>",
        "",
    ]


def _loss_page(key: str, loss: Any, configs: tuple[Path, ...]) -> str:
    called = getattr(loss, "forward", loss)
    arguments = inspect.signature(called).parameters
    context = [
        f"`{name}`" + ("" if arguments[name].default is inspect.Parameter.empty else " (optional)")
        for name in kdlosses.CONTEXT
        if name in arguments
    ]
    on = (
        "nodes"
        if "edge_index" in arguments and _required(arguments["edge_index"])
        else "maps"
        if _kind(key) == "dense"
        else "nodes and maps"
    )
    facts = [f"*Kind:* {_kind(key)}. *On:* {on}." + (f" *Reads:* {', '.join(context)}." if context else "")]
    return _page(key, facts, loss, configs)


def _part_page(name: str, part: Any, configs: tuple[Path, ...]) -> str:
    return _page(name, [], part, configs)


def _page(name: str, facts: list[str], part: Any, configs: tuple[Path, ...]) -> str:
    options = [f'type="{name}"', *_options(part)]
    call = f"dict({', '.join(options)})"
    if len(call) > 72:
        call = "\n".join(["dict(", *(f"    {each}," for each in options), ")"])
    source = Path(inspect.getsourcefile(inspect.unwrap(part)) or "").relative_to(ROOT)
    lines = [f"# `{name}`", "", "```python", call, "```", "", *facts, "", markdown(inspect.getdoc(part) or ""), ""]
    lines += [f"Source: `{source}`.", ""]
    if configs:
        shown = configs[:40]
        lines += ["## Configs", "", *(f"- `{path.as_posix()}`" for path in shown)]
        lines += [f"- and {len(configs) - len(shown)} more"] if len(configs) > len(shown) else []
    return "\n".join(lines) + "\n"


def _options(part: Any) -> list[str]:
    """Options of a part with their defaults, as they stand in a config."""
    skipped = {*kdlosses.CONTEXT, "student", "teacher", "model", "lesson", "in_features", "classes_", "self"}
    found = [each for each in inspect.signature(part).parameters.values() if each.name not in skipped]
    named = [each for each in found if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    return [f"{each.name}={'...' if _required(each) else repr(each.default)}" for each in named]


def _required(argument: inspect.Parameter) -> bool:
    return argument.default is inspect.Parameter.empty


def _rules() -> str:
    lines = ["# Rules that recipes and policies call", ""]
    lines += [
        "Plain functions and modules of `kdlosses.rules`, and of `graphkd.rules` where graphs alone use them.",
        "",
    ]
    rules = {name: getattr(home, name) for home in (kdlosses.rules, graphkd.rules) for name in home.__all__}
    for name in sorted(rules, key=str.lower):
        lines += [f"## `{name}`", "", markdown(inspect.getdoc(rules[name]) or "", level=3), ""]
    return "\n".join(lines)


def _api() -> str:
    lines = ["# The Python interface", ""]
    for package in (graphkd, densekd, kdlosses):
        names = [name for name in package.__all__ if not inspect.ismodule(getattr(package, name))]
        names = [
            name
            for name in names
            if package is not kdlosses or name in ("build", "register", "Loss", "weighted_mean", "nearest")
        ]
        lines += [f"## {package.__name__}", ""]
        for name in names:
            part = getattr(package, name)
            if callable(part):
                lines += [f"### `{package.__name__}.{name}`", "", "```python", f"{name}{_signature(part)}", "```", ""]
                lines += [markdown(inspect.getdoc(part) or "", level=4), ""]
    return "\n".join(lines)


def _signature(part: Callable[..., Any]) -> str:
    try:
        return re.sub(r"<factory>", "...", str(inspect.signature(part)))
    except ValueError:
        return "(...)"


def _results() -> str:
    lines = [
        "# Results",
        "",
        "Every table is printed from logs in `results/`, which a command wrote. Mean ± sample standard deviation over "
        "seeds. Selection is on validation data alone. The control is the same student under the same schedule without "
        "a teacher.",
        "",
        *(f"- [{title}]({name}.md): {sentence}" for name, (title, sentence, _) in RESULTS.items()),
        "",
    ]
    return "\n".join(lines)


def _links(text: str) -> str:
    """A table of `report` as a section of a page."""
    return re.sub(r"^\*\*(.+?)\*\* \((.+?)\)", r"## \1\n\nSelection: \2.", text, count=1)


# --- systems ----------------------------------------------------------------------------------------------------------


def _systems() -> str:
    lines = [
        "# Systems",
        "",
        "Each published system: what it is registered as, a config on nodes and one on pixels, the test of its "
        "defining idea, and what the idea is worth on small data. A result has the idea, the nearest form without it, "
        "and their difference. On nodes it is test accuracy in percent on the embedded digits graph, printed from the "
        "logs of `python benchmarks/ablations.py`; where a log in `results/` is named, in the measure that "
        "stands first. Mean ± sample standard deviation over seeds, the difference paired by seed. Control is the "
        "same student untaught; where none is given it is the form without the idea, or was not run. A benefit shows "
        "where the mean difference is above 0 and above its deviation; *worse* is as far below 0. Of one seed nothing "
        "is said. Two or three seeds are few, and such data are easy and small: they tell whether an idea works as it "
        "is built here, not what a paper gained. A taught student may be better than one without the idea and still "
        "worse than the control. *Open* is what a paper has and this has not, and a side that has no config.",
        "",
    ]
    for title, rows in (
        ("Of nodes and pixels", systems.SHARED),
        ("Of graphs", systems.GRAPHS),
        ("Of dense prediction", systems.DENSE),
    ):
        lines += [f"## {title}", "", '<div class="wrap" markdown>', ""]
        lines += ["| system | parts | on nodes | on pixels | test | open |", "| --- | --- | --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(_cell(each) for each in _system(system))} |" for system in rows]
        lines += ["", "</div>", ""]
    return "\n".join(lines)


def _system(system: systems.System) -> list[str]:
    parts = ", ".join(_linked(part) for part in system.parts.split())
    sides = [
        "<br>".join(each for each in (_config(system.config(side)), ablations.result(system, side)) if each)
        for side in ("nodes", "pixels")
    ]
    path, _, test = system.test.partition("::")
    return [system.name, parts, *sides, f"`{path}` `{test}`" if test else "", system.lacks()]


def _config(said: str) -> str:
    return f"`{said}`" if said.endswith(".py") else said


def _linked(part: str) -> str:
    """A part with links to its pages: there may be a loss and a recipe of one name."""
    registries = {
        **{"losses": kdlosses.LOSSES, "recipes": GRAPH_RECIPES, "methods": METHODS},
        **{"policies": POLICIES, "teachers": TEACHERS},
    }
    pages = {what: f"reference/{what}/{part}.md" for what, parts in registries.items() if part in parts}
    if len(pages) > 1:
        kinds = {
            "losses": "loss",
            "recipes": "recipe",
            "methods": "method",
            "policies": "policy",
            "teachers": "teacher",
        }
        return f"`{part}` ({', '.join(f'[{kinds[what]}]({page})' for what, page in pages.items())})"
    return "".join(f"[`{part}`]({page})" for page in pages.values()) or (
        f"[`{part}`](reference/rules.md)" if part in graphkd.rules.__all__ else f"`{part}`"
    )


# --- docstrings -------------------------------------------------------------------------------------------------------

_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Yields|Example|`\w+`):\s*$")


def summary(part: Any) -> str:
    """First paragraph of the docstring, in one line."""
    return " ".join((inspect.getdoc(part) or "").split("\n\n")[0].split())


def paper(part: Any) -> str:
    """Title and year after `Paper:`."""
    text = " ".join((inspect.getdoc(part) or "").partition("Paper:")[2].split())
    found = re.search(r'"([^"]+)",\s+([\w ]*?\d{4})', text)
    return f"{found[1]}, {found[2]}" if found else ""


def markdown(doc: str, level: int = 2) -> str:
    """A docstring as Markdown: sections as headings, arguments as lists, examples as code."""
    lines, out, section = doc.split("\n"), [], ""
    code = False
    for line in lines:
        bare = line.strip()
        if bare.startswith(">>>") and not code:
            out += ["", "```pycon"]
            code = True
        if code:
            if bare:
                out.append(line.strip() if bare.startswith((">>>", "...")) else bare)
                continue
            out += ["```", ""]
            code = False
        head = _SECTION.match(line)
        if head:
            section = head[1].strip("`")
            title = "Called with" if section == "forward" else {"Args": "Options"}.get(section, section)
            out += ["", f"{'#' * level} {title}", ""]
        elif section and (entry := re.match(r"^    (\S.*?): (.*)$", line)) and not line.startswith("     "):
            out.append(f"- **{_code(entry[1])}**: {entry[2]}")
        elif section and line.startswith("    "):
            out.append(f"  {bare}" if line.startswith("        ") else bare)
        elif line.startswith("Paper: "):
            section = ""
            out += ["", f"{'#' * level} Paper", "", bare.removeprefix("Paper: ")]
        else:
            section = section if not bare else ""
            out.append(line)
    if code:
        out.append("```")
    return "\n".join(out)


def _code(name: str) -> str:
    return ", ".join(f"`{each.strip('`')}`" for each in name.split(", "))


def _cell(text: str) -> str:
    return re.sub(r"\$\$.*?\$\$", "", text).replace("|", r"\|")


# --- configs ----------------------------------------------------------------------------------------------------------


def _named_in_configs() -> dict[tuple[str, str], tuple[Path, ...]]:
    """Configs by the loss, recipe or method that they name. A folder of configs is called after what is in it."""
    found: dict[tuple[str, str], list[Path]] = {}
    texts = {path.relative_to(ROOT): path.read_text() for path in (ROOT / "configs").rglob("*.py")}
    rows = {Path("configs", name): " ".join(_said(row.model)) for name, row in ROWS.items()}
    for path, text in sorted({**rows, **texts}.items()):
        if path.parent.name in ("plain", "_base_", "pairs"):
            continue
        for what, pattern, parts in (
            ("recipes", r'type="(\w+)"', GRAPH_RECIPES),
            ("methods", r'(?:method=|type=)"(\w+)"', METHODS),
            ("loss", r'(?:loss=|type=)"(\w+)"', kdlosses.LOSSES),
        ):
            if (what == "recipes") != bool(
                {"graph", "links", "recommendation", "tasks"} & {*path.parts}
            ) and what != "loss":
                continue
            for name in {*re.findall(pattern, text), path.parent.name} & {*parts}:
                found.setdefault((what, name), []).append(path)
    return {key: tuple(paths) for key, paths in found.items()}


def _said(fields: Any) -> Iterator[str]:
    """The settings of a row of the table as a config would write them."""
    for key, value in fields.items() if isinstance(fields, Mapping) else ():
        yield f'{key}="{value}"'
        yield from _said(value)
    for value in fields if isinstance(fields, list) else ():
        yield from _said(value)


def _kind(key: str) -> str | None:
    package, *rest = kdlosses.LOSSES[key].__module__.split(".")
    return {"kdlosses": rest and rest[0], "graphkd": "graph", "densekd": "dense"}.get(package)

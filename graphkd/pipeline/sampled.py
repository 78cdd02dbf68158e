"""Teachers of graphs that do not fit: trained on sampled neighbourhoods, applied layer by layer into a cache."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphkd.data import Graph, Setting, restrict
from graphkd.pipeline.arguments import as_json, bound_options, built, name_of
from graphkd.pipeline.checks import check_classes, warn_unless
from graphkd.pipeline.measure import metrics_of
from graphkd.pipeline.outcome import Outcome, TeacherSpec
from graphkd.pipeline.teacher_spec import parse_teacher
from graphkd.sparse.edges import by_target
from graphkd.sparse.neighbours import Fanout, near
from graphkd.sparse.rows import Matrix, rows
from graphkd.spec import whole
from graphkd.teachers.call import kind_of
from graphkd.teachers.gnn import GNN
from graphkd.teachers.layerwise import BLOCK, Space, check_layerwise, layerwise, trimmed
from graphkd.teachers.stored import StoredGNN, blocks, check_stored
from graphkd.training.cache import Cache
from graphkd.training.loop import Evaluation, History, Schedule, score, train
from graphkd.training.parallel import barrier, processes
from graphkd.training.watch import HERE, Callback, Run
from kdlosses.taps import at_rest

EPOCHS, BATCH, FANOUT = 20, 1024, 10
"""Of a teacher that does not say: passes over the training nodes, nodes in a step, and neighbours in a hop."""
_VALIDATED = 5_000  # validation nodes that choose the epoch
_BLOCKS = 4  # in a shard
_IN_MEMORY = 4 << 30  # bytes of a layer's output; more lies on disk


class Sampled(NamedTuple):
    """A teacher for `scale='sampled'`, parsed.

    Attributes:
        network: built, or the ready one.
        told: what its cache says of it.
        schedule: None for a ready one.
        fanout: neighbours drawn in each hop.
        share: see `graphkd.data.restrict`.
    """

    network: nn.Module
    told: dict[str, Any]
    schedule: Schedule | None
    fanout: Fanout
    share: dict[str, Any]


def parsed(teacher: TeacherSpec, width: int, classes: int, seed: int) -> Sampled:
    """Build a teacher from its spec, or take a ready module.

    Raises:
        ValueError: it has an option that needs the whole graph at once, or one is out of range.
    """
    if isinstance(teacher, nn.Module):
        return Sampled(teacher, {"type": type(teacher).__name__}, None, None, {})
    options = dict(teacher) if isinstance(teacher, Mapping) else {"type": teacher}
    told_fanout, fanout = "fanout" in options, options.pop("fanout", FANOUT)
    parts = parse_teacher({"epochs": EPOCHS, "batch_size": BATCH, **options})
    builder, own, schedule, share, tune, taught, taps = parts
    if taps:
        raise ValueError("scale='sampled' keeps logits, and no hidden layer: leave out taps, or pass scale='full'")
    if tune is not None or taught:
        given = [*taught, *(["tune"] if tune is not None else [])]
        raise ValueError(f"scale='sampled' trains a teacher on labels alone; leave out {given}, or pass scale='full'")
    if "task" in share:
        raise ValueError("scale='sampled': a teacher with a task of its own needs scale='full'")
    fanout = (
        [whole("fanout", each, 1) for each in fanout]
        if isinstance(fanout, list | tuple)
        else (None if fanout is None else whole("fanout", fanout, 1))
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = built(builder, width, classes, own)
    if isinstance(network, StoredGNN):
        if told_fanout:
            raise ValueError(f"the teacher {name_of(builder)!r} draws neighbours before its training: leave out fanout")
        fanout = None
    told = {"type": name_of(builder), **bound_options(builder), **own, **vars(schedule), **share, "fanout": fanout}
    layers = len(getattr(network, "layers", ()))
    if isinstance(fanout, list) and len(fanout) != layers:
        raise ValueError(f"fanout={fanout} has {len(fanout)} numbers; expected one for each of {layers} layers, or one")
    return Sampled(network, told, schedule, fanout, share)


def train_sampled(
    setting: Setting, teacher: TeacherSpec, seed: int, folder: Path, fingerprint: str, run: Run = HERE
) -> Outcome:
    """Train a teacher on sampled neighbourhoods, apply it layer by layer, and write its logits to `folder`.

    In several processes each takes its part of every batch and of every layer, and writes its own shards; all of them
    must see `folder`.

    Args:
        setting: of a graph whose edges are sorted by target and go both ways, see `sorted_undirected`.
        teacher: a builder's name, dict or function, with `fanout`, neighbours drawn in each hop, a number or one for
            each layer; a ready stack of layers, see `check_layerwise`; or a cache.
        seed: of its parameters and draws.
        folder: gets the shards of the cache.
        fingerprint: of the whole graph.
        run: device and precision of the training, and who is told; the network is applied on the CPU.
    """
    if isinstance(teacher, Cache):
        check_classes(setting, teacher)
        warn_unless(teacher.settings.get("split") == setting.mark(), "the cached teacher", "split" in teacher.settings)
        return _outcome(None, setting, teacher, History(), 0.0)
    seen = setting.seen
    network, told, schedule, fanout, share = parsed(teacher, seen.x.shape[1], seen.num_classes, seed)
    assert isinstance(network, GNN)  # checked before anything is trained
    crow, source = by_target(seen.edge_index, len(seen))
    space = _space(folder)
    stored = _stored(network, seen.x, crow, source, space)
    history = History()
    if schedule is not None:
        view = restrict(setting, **share, seed=seed)
        with run.watched("teacher") as tell:
            history = _fit(network, view, schedule, fanout, seed, crow, source, stored, run, tell)
        network.trained_on = setting.mark()  # type: ignore[assignment]
    trained_on = getattr(network, "trained_on", None)
    warn_unless(trained_on == setting.mark(), f"the {type(network).__name__}", trained_on is not None)
    head: dict[str, Any] = {
        "fingerprint": fingerprint,
        "settings": {"teacher": as_json(told), "setting": setting.name, "seed": seed, "split": trained_on},
    }
    start = time.perf_counter()
    with at_rest(network):
        _write(_applied(network, seen.x, crow, source, stored, space), setting, head, folder)
        barrier()
        applied = time.perf_counter() - start
        cache = Cache.load(folder, fingerprint)
        found = _outcome(network, setting, cache, history, applied, space)
        barrier()
        for file in folder.glob("layer-*.npy"):
            file.unlink(missing_ok=True)
        return found


def _fit(
    network: GNN,
    setting: Setting,
    schedule: Schedule,
    fanout: Fanout,
    seed: int,
    crow: Tensor,
    source: Tensor,
    stored: Any,
    run: Run,
    tell: Callback | None,
) -> History:
    seen, y = setting.seen, setting.seen.y
    draw, batches = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed)
    order = torch.randperm(len(setting.val), generator=batches)[:_VALIDATED]
    watched = setting.val[order.sort().values]

    def logits(nodes: Tensor, draws: torch.Generator) -> Tensor:
        if isinstance(network, StoredGNN):
            return network.answer(stored, nodes).float().cpu()
        around = near(crow, source, nodes, len(network.layers), fanout, draws)
        x = _dense(network, rows(seen.x, around.nodes)).to(run.device)
        return trimmed(network, x, around._replace(edges=around.edges.to(run.device))).float().cpu()

    def loss(batch: Tensor | slice) -> Tensor:
        asked = setting.train[batch]
        with run.autocast():
            found = logits(asked, draw)
        return F.cross_entropy(found, y[asked])

    def evaluate() -> Evaluation:
        same = torch.Generator().manual_seed(seed)  # in every epoch, or their luck would choose
        with torch.inference_mode():
            found = torch.cat([logits(part, same) for part in watched.split(BATCH)])
        return score(found, y[watched]), None

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network.to(run.device)
        history = train(
            *(network, loss, len(setting.train)),
            schedule=schedule,
            evaluate=evaluate,
            generator=batches,
            callback=tell,
        )
    network.cpu().eval()
    return history


def _dense(network: nn.Module, x: Tensor) -> Tensor:
    return x if x.layout is torch.strided or getattr(network, "sparse", False) else x.to_dense()


def _space(folder: Path) -> Space:
    """Where numbers of all nodes go: what does not fit into memory, or is shared by processes, lies in `folder`."""
    rank, size = processes()
    count = itertools.count()

    def space(nodes: int, width: int) -> Tensor:
        if size == 1 and 4 * nodes * width <= _IN_MEMORY:
            return torch.empty(nodes, width)
        path = folder / f"layer-{next(count)}.npy"
        folder.mkdir(parents=True, exist_ok=True)
        if rank == 0:
            np.lib.format.open_memmap(path, "w+", np.float32, (nodes, width)).flush()
        barrier()
        return torch.from_numpy(np.lib.format.open_memmap(path, "r+"))

    return space


def _stored(network: GNN, x: Matrix, crow: Tensor, source: Tensor, space: Space) -> Any:
    """What a `StoredGNN` reads of a graph; None for others."""
    if not isinstance(network, StoredGNN):
        return None
    return network.store(x, crow, source, share=processes(), space=space, joined=barrier)


@torch.inference_mode()
def _applied(
    network: GNN, x: Matrix, crow: Tensor, source: Tensor, stored: Any, space: Space
) -> Iterator[tuple[int, Tensor]]:
    """First node and logits of one block of nodes after the other, in this process or shared by several."""
    if isinstance(network, StoredGNN):
        for nodes in blocks(len(crow) - 1, processes()):
            yield int(nodes[0]), network.answer(stored, nodes)
        return
    rank, size = processes()
    block = min(BLOCK, -(-(len(crow) - 1) // size))  # one for each process, at least
    yield from layerwise(network, x, crow, source, block=block, share=(rank, size), space=space, joined=barrier)


@torch.inference_mode()
def _whole(network: GNN, x: Matrix, crow: Tensor, source: Tensor, space: Space) -> Iterator[Tensor]:
    """Logits of one block of nodes after the other, of all nodes in each process."""
    if isinstance(network, StoredGNN):
        stored = _stored(network, x, crow, source, space)
        yield from (network.answer(stored, nodes) for nodes in blocks(len(crow) - 1))
    else:
        yield from (part for _, part in layerwise(network, x, crow, source))


def _write(parts: Iterator[tuple[int, Tensor]], setting: Setting, head: Mapping[str, Any], folder: Path) -> None:
    """Write blocks of seen nodes as shards of the cache of the whole graph, NaN where unseen."""
    ids, many = setting.observed, len(setting.whole)

    def bound(place: int) -> int:  # node of the whole graph before which the shards of earlier seen nodes end
        return 0 if place == 0 else many if place == len(ids) else int(ids[place])

    while some := list(itertools.islice(parts, _BLOCKS)):
        begin, stop = some[0][0], some[-1][0] + len(some[-1][1])
        first, end = bound(begin), bound(stop)
        logits = np.full((end - first, some[0][1].shape[1]), np.nan, np.float32)
        logits[ids[begin:stop].numpy() - first] = torch.cat([part for _, part in some]).numpy()
        observed = np.zeros(end - first, bool)
        observed[ids[begin:stop].numpy() - first] = True
        node_id = setting.whole.node_id[first:end].numpy()
        Cache(logits, node_id, observed, **head).save_shard(folder, first, many)


def _outcome(
    network: GNN | None,
    setting: Setting,
    cache: Cache,
    history: History,
    applied: float,
    space: Space = torch.empty,
) -> Outcome:
    observed = _classes(rows(cache.logits, part) for part in torch.arange(len(setting.whole)).split(BLOCK))
    linked = alone = None
    if setting.name == "ind" and network is not None:
        seen, everything = setting.seen, setting.whole
        known = setting.observed[seen.edge_index]
        linked, alone = (
            _classes(_whole(network, everything.x, *by_target(edges, len(everything)), space))
            for edges in (everything.edge_index, known)
        )
    val = setting.observed[setting.val]
    found = score(rows(cache.logits, val), setting.whole.y[val])[0]
    metrics = metrics_of(setting, observed, linked, alone)
    return Outcome(network, metrics, None, found, sum(history.seconds), cache, applied=applied)


def _classes(blocks: Iterator[Tensor]) -> Tensor:
    return torch.cat([part.argmax(1) for part in blocks])


def small_setting(setting: Setting, seed: int, nodes: int = 200) -> Setting:
    """A small transductive setting of the nodes around some labelled ones, to try methods on."""
    seen = setting.seen
    draw = torch.Generator().manual_seed(seed)
    parts = [ids[torch.randperm(len(ids), generator=draw)[:nodes]] for ids in (setting.train, setting.val)]
    crow, source = by_target(seen.edge_index, len(seen))
    around = near(crow, source, torch.cat(parts), 1, 5, draw)
    edges = torch.cat([around.edges, around.edges.flip(0)], 1).unique(dim=1)
    mini = Graph(
        rows(seen.x, around.nodes), edges, seen.y[around.nodes], seen.num_classes, torch.arange(len(around.nodes))
    )
    train, val = torch.arange(len(parts[0])), torch.arange(len(parts[0]), len(parts[0]) + len(parts[1]))
    return Setting("tran", mini, mini, torch.arange(len(mini)), train, val, val, torch.empty(0, dtype=torch.long))


def check_sampled(teacher: TeacherSpec, mini: Setting, seed: int) -> None:
    """Raise ValueError unless a teacher can be trained on sampled neighbourhoods and applied layer by layer."""
    if isinstance(teacher, Cache):
        return
    network, _, schedule, *_ = parsed(teacher, mini.seen.x.shape[1], mini.seen.num_classes, seed)
    if isinstance(network, StoredGNN) and schedule is not None and schedule.batch_size is not None:
        network.check_batch(schedule.batch_size)
    if hasattr(network, "auxiliary_loss") and not isinstance(teacher, nn.Module):
        raise ValueError(
            f"a {type(network).__name__} has losses of its own over the whole graph, which sampled neighbourhoods are "
            "not: choose sage, gcn or gat, or scale='full'"
        )
    if kind_of(network) != (torch.device("cpu"), torch.float32):
        raise ValueError("scale='sampled' applies a ready teacher on the CPU in float32: pass module.cpu().float()")
    with at_rest(network):
        edges = mini.seen.edge_index
        x = mini.seen.x if getattr(network, "sparse", False) else mini.seen.x.to_dense()
        if isinstance(network, StoredGNN):
            check_stored(network, x, edges, *by_target(edges, len(mini.seen)))
        else:
            check_layerwise(network, x, edges, *by_target(edges, len(mini.seen)))

"""Teachers of the cells of a comparison: trained on the whole graph or on samples of it, their caches kept or not."""

from __future__ import annotations

import functools
import hashlib
import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphkd.data import Graph, Setting
from graphkd.pipeline.arguments import Student
from graphkd.pipeline.checks import check_classes, check_shown, check_teachers, check_writable
from graphkd.pipeline.distill_sampled import check_for_samples, rehearse_sampled, sampled_latency
from graphkd.pipeline.outcome import MethodSpec, Outcome, TeacherSpecs
from graphkd.pipeline.rehearse import rehearse
from graphkd.pipeline.sampled import train_sampled
from graphkd.pipeline.teacher_spec import listed
from graphkd.pipeline.train_teacher import train_teacher
from graphkd.training.cache import Cache
from graphkd.training.parallel import processes
from graphkd.training.watch import Run


@dataclass(frozen=True)
class Cells:
    """How the cells of a comparison are trained.

    Attributes:
        graph: with its edges in both directions; for samples sorted by target, see `sorted_undirected`.
        sampled: whether teachers are trained on sampled neighbourhoods, see `distill`.
        run: device and precision of the teachers.
        folder: gets their caches; None keeps none.
    """

    graph: Graph
    sampled: bool
    run: Run
    folder: Path | None = None

    def check(self, methods: Sequence[MethodSpec], scoring: Any, places: Sequence[Path]) -> None:
        """Raise an error if the graph, a method or the folder does not go with this, before anything is trained.

        Raises:
            ValueError: sampling does not allow for it, or two teachers would share one of the `places`.
            FileExistsError: there is a cache already in one of these.
            OSError: nothing can be written there.
        """
        if self.sampled:
            check_for_samples(self.graph, methods, scoring)
            if processes()[1] > 1:
                raise ValueError("a comparison of sampled runs is for one process; in several call graphkd.distill")
        if self.folder is not None:
            check_writable("folder", self.folder / "cache")
        for place in places:
            if places.count(place) > 1:
                raise ValueError(f"two teachers would share the folder {place.parent}: pass them to two comparisons")
            if place.exists():
                raise FileExistsError(
                    f"{place} exists: choose another folder, delete it, or teach from it, graphkd.Cache.load"
                    f"({str(place)!r})"
                )

    def rehearse(
        self,
        view: Setting,
        teacher: TeacherSpecs,
        methods: Sequence[MethodSpec],
        student: Student,
        seed: int,
        as_given: Setting | None = None,
    ) -> None:
        """Run teacher and methods up to their first step; see `rehearse`, of samples `rehearse_sampled`."""
        if not self.sampled:
            rehearse(view, teacher, methods, student, seed, as_given)
            return
        if len(listed(teacher)) > 1:
            raise ValueError("scale='sampled' takes one teacher; of several join the caches, see `Cache.join`")
        rehearse_sampled(view, listed(teacher)[0], methods, student, seed)

    def check_teacher(self, view: Setting, teacher: Any, as_given: Setting | None = None) -> None:
        """Check a teacher on a setting, before one is trained."""
        if not self.sampled:
            check_teachers(view, [teacher], as_given)
        elif isinstance(teacher, Cache):
            check_shown(view, teacher)
            check_classes(view, teacher)

    def place(self, called: str, setting: str, seed: int) -> Path | None:
        """Where the cache of a teacher goes: in the folder, in one of its name, if it has one."""
        name = re.sub(r"[^\w.=-]+", "_", called).strip("_")
        if len(name) > 100:  # options may be long, and names of folders may not
            name = f"{name[:80]}-{hashlib.blake2b(called.encode(), digest_size=8).hexdigest()}"
        return None if self.folder is None else self.folder / name / f"{setting}-{seed}"

    @contextmanager
    def taught(
        self,
        views: Mapping[str, Setting],
        teacher: TeacherSpecs,
        seed: int,
        extras: Collection[str] = (),
        as_given: Callable[[str], Setting | None] = lambda setting: None,
        called: str | None = None,
    ) -> Iterator[dict[str, Outcome]]:
        """Train a teacher in each setting; their caches can be read inside of the `with`.

        With a name, which may be empty, they are kept in the folder, if there is one, where none is yet.
        """
        found: dict[str, Outcome] = {}
        with ExitStack() as stack:
            if self.sampled:
                if self.folder is not None:  # on the same disk, to be moved
                    self.folder.mkdir(parents=True, exist_ok=True)
                made = tempfile.TemporaryDirectory(prefix=".graphkd-", dir=self.folder, ignore_cleanup_errors=True)
                scratch = Path(stack.enter_context(made))
            for name, view in views.items():
                if self.sampled:
                    (one,) = listed(teacher)
                    found[name] = train_sampled(view, one, seed, scratch / name, self.fingerprint, self.run)
                else:
                    own = as_given(name)
                    told: dict[str, Any] = dict(device=self.run.device, amp=self.run.amp)
                    found[name] = train_teacher(view, teacher, seed, extras, own, **told)
            for name, outcome in found.items() if called is not None else ():
                place = self.place(called or "", name, seed)
                if place is None or place.exists() or outcome.cache is None or isinstance(teacher, Cache):
                    continue
                if self.sampled:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    (scratch / name).rename(place)
                    outcome.cache = Cache.load(place, self.fingerprint)
                else:
                    outcome.cache.save(place)
            yield found

    @functools.cached_property
    def fingerprint(self) -> str:
        """Of the graph, which may be large."""
        return self.graph.fingerprint()

    def latency(self, outcome: Outcome) -> dict[str, float] | None:
        """Milliseconds of a model where it was sampled; see `sampled_latency`."""
        return sampled_latency(self.graph, outcome)

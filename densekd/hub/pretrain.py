"""Teach a backbone on images without labels."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from densekd.checkpoint import read
from densekd.hub.features import Features
from densekd.hub.images import Crops, Size, batches, held_out
from densekd.hub.lessons import Lesson
from kdlosses.whole import whole

STATE = "training.pth"
"""The file to go on from, in the folder of a training."""
MEASURED = 128
"""Images on which means and deviations of the teachers are measured."""


class Pretraining:
    """A backbone that learns from one or several teachers on images without labels.

    The optimiser is AdamW, its rate rises over the first twentieth of the steps and falls as a cosine. Student and
    teachers see the same crops, each in its own normalisation. The losses of several teachers
    are averaged, and count alike, see `densekd.hub.lessons.Lesson`.

    Args:
        student: yields maps; `Features` of the backbone. Only the backbone, its `network`, is written.
        teachers: by name; frozen.
        images: files to learn from, all readable; see `densekd.hub.images.broken_images`.
        steps: of the optimiser.
        batch: images a step.
        size: height and width of a crop.
        rate: highest learning rate.
        decay: weight decay.
        loss: of features, see `Lesson`.
        least: share of an image that a crop covers at least.
        share: of the images that is held out, for validation; they are spread evenly over the list, so that of a video
            their neighbours are learned from.
        seed: of heads, crops and their order; not of the backbone, which starts as it is.
        workers: processes that read images.
        amp: bfloat16 where autocast uses it.
        device: where to train; a GPU if there is one.

    Raises:
        ValueError: an option out of range, images too few, or a student of which nothing can be trained.
        TypeError, FloatingPointError: a network yields no maps, or nothing to learn from.
    """

    alone = False
    """Whether it may have no teacher."""

    def __init__(
        self,
        student: Features,
        teachers: Mapping[str, Features],
        images: Sequence[Path],
        *,
        steps: int = 1000,
        batch: int = 16,
        size: Size = (224, 224),
        rate: float = 1e-3,
        decay: float = 0.02,
        loss: Any = "mse",
        least: float = 0.25,
        share: float = 0.1,
        seed: int = 0,
        workers: int = 0,
        amp: bool = False,
        device: str | torch.device | None = None,
    ) -> None:
        if not teachers and not self.alone:
            raise ValueError("pre-training needs a teacher")
        if min(steps, batch, *size) < 1 or rate <= 0 or decay < 0 or not 0 < least <= 1:
            raise ValueError(
                "steps, batch and size must be at least 1, rate above 0, decay at least 0, least in (0, 1]; got "
                f"{steps}, {batch}, {size}, {rate}, {decay}, {least}"
            )
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.student = student.to(self.device)
        self.teachers = {name: each.to(self.device).requires_grad_(False).eval() for name, each in teachers.items()}
        self.steps, self.batch, self.rate, self.workers, self.amp = steps, batch, rate, workers, amp
        learn, validate = held_out(images, share)
        self.images, self.validation = Crops(learn, size, seed, least), Crops(validate, size, seed, None)
        self.plan: dict[str, Any] = dict(steps=steps, batch=batch, size=list(size), rate=rate, decay=decay)
        self.plan |= dict(loss=str(loss), least=least, share=share, seed=seed, amp=amp, teachers=[*teachers])
        self.plan |= dict(images=len(learn), held_out=len(validate))
        names = "\n".join(path.name for path in images)
        self.plan["files"] = sha256(names.encode()).hexdigest()[:16]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.lessons = self._lessons(loss)
        trained = [weight for part in (student, self.lessons) for weight in part.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=rate, weight_decay=decay)
        self.step = 0
        self.history: list[dict[str, float]] = []

    def run(self, out: Path, every: int = 100, say: Callable[[str], None] = print) -> list[dict[str, float]]:
        """Train from where it is to the last step, and keep the state in the folder `out`.

        Args:
            out: gets `training.pth`, from which `resume` goes on.
            every: steps between two validations, after each of which the state is written.
            say: called with a line at each validation.

        Returns:
            The losses at each validation, the first before training: `step`, `loss` (training, mean since the last
            one), `held_out` and, of several teachers, `held_out <name>`.

        Raises:
            FloatingPointError: the loss is no longer finite.
            OSError: an image cannot be read, or the disk is full.
        """
        if not self.history:
            self.history.append(self.validate())
            say(_line(self.history[-1], self.steps))
        start, losses = time.perf_counter(), []
        first = self.step
        for pixels in batches(self.images, self.batch, self.steps, self.step, self.workers):
            losses.append(self._learn(pixels))
            if self.step % every == 0 or self.step == self.steps:
                loss = torch.stack(losses).mean().item()
                if not math.isfinite(loss):
                    raise FloatingPointError(
                        f"the loss of steps {self.step - len(losses) + 1} to {self.step} is {loss}: try a lower rate "
                        f"than {self.rate:g}"
                    )
                self.history.append({**self.validate(), "loss": loss})
                losses = []
                pace = (time.perf_counter() - start) / (self.step - first)
                self.save(out / STATE)
                say(f"{_line(self.history[-1], self.steps)}, {pace:.2f} s a step")
        return self.history

    def _learn(self, pixels: Tensor) -> Tensor:
        self.student.train()
        rate = self.rate * min(1.0, (self.step + 1) / max(1, self.steps // 20))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * self.step / self.steps))
        found = self._losses(pixels, progress=self.step / self.steps, epoch=self.step * self.batch // len(self.images))
        loss = torch.stack([*found.values()]).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return loss.detach()

    def _losses(self, pixels: Tensor, **context: Any) -> dict[str, Tensor]:
        pixels = pixels.to(self.device, non_blocking=True).float()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
            with torch.no_grad():
                guides = {name: teacher.of_pixels(pixels) for name, teacher in self.teachers.items()}
            maps = self.student.of_pixels(pixels)
        return {name: self.lessons[name](maps, guides[name], **context) for name in self.teachers}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the loss on the images held out, of each teacher and their mean."""
        self.student.eval()
        sums: dict[str, float] = {}
        for place, pixels in enumerate(self._in_turn(self.validation)):
            found = self._losses(pixels, progress=self.step / self.steps, epoch=0, place=place)
            for name, loss in found.items():
                sums[name] = sums.get(name, 0.0) + loss.item() * len(pixels) / len(self.validation)
        each = {f"held_out {name}": value for name, value in sums.items()} if len(sums) > 1 else {}
        return {"step": self.step, "held_out": sum(sums.values()) / len(sums), **each}

    def save(self, path: Path) -> None:
        """Write all that the training needs to go on."""
        state = dict(plan=json.dumps(self.plan), step=self.step, history=self.history, random=torch.get_rng_state())
        parts: dict[str, Any] = dict(student=self.student.network, lessons=self.lessons, optimiser=self.optimiser)
        state |= {name: part.state_dict() for name, part in parts.items()}
        with whole(path) as draft:
            torch.save(state, draft)

    def resume(self, path: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, or of a training with other options, images or networks.
        """
        state = read(path)
        if not isinstance(state, Mapping) or not {"plan", "student", "lessons", "optimiser"} <= {*state}:
            raise ValueError(f"{path} is no state of a pre-training: --overwrite begins anew")
        theirs = json.loads(state["plan"])
        unlike = [
            f"{key} {theirs[key]!r}, now {value!r}"
            for key, value in self.plan.items()
            if theirs.get(key, value) != value  # a state of an earlier version knows less
        ]
        if unlike:
            raise ValueError(f"{path} is of a training with other options: {'; '.join(unlike)}")
        try:
            self.student.network.load_state_dict(state["student"])
            self.lessons.load_state_dict(state["lessons"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"{path} is of a training of another student, or by other teachers: {error}") from error
        self.step, self.history = state["step"], state["history"]
        torch.set_rng_state(state["random"].cpu())

    @torch.no_grad()
    def _lessons(self, loss: Any) -> nn.ModuleDict:
        """Build the heads from the maps of one batch, and measure the teachers on several."""
        probe = next(iter(self._in_turn(Crops(self.images.paths[:2], self.images.size, least=None))))
        probe = probe.to(self.device).float()
        self.student.eval()
        with torch.enable_grad():
            maps = self.student.of_pixels(probe)
        if not any(each.requires_grad for each in maps):
            raise ValueError(
                f"nothing of the student {self.student.name} can be trained: its weights are frozen, or its maps carry "
                "no gradient. Unfreeze it (--from-scratch for a config)"
            )
        maps = [each.detach() for each in maps]
        lessons = nn.ModuleDict()
        several = max(1, math.ceil(min(MEASURED, len(self.images)) / self.batch))
        for name, teacher in self.teachers.items():
            if "." in name:
                raise ValueError(f"the name of a teacher must not contain a dot, got {name!r}")
            lesson = Lesson(maps, teacher.of_pixels(probe), loss).to(self.device)
            some = batches(self.images, self.batch, several)
            lesson.measure(teacher.of_pixels(pixels.to(self.device).float()) for pixels in some)
            lessons[name] = lesson
        return lessons

    def _in_turn(self, crops: Crops) -> torch.utils.data.DataLoader[Tensor]:
        own = torch.Generator().manual_seed(0)
        return torch.utils.data.DataLoader(crops, self.batch, num_workers=self.workers, generator=own)


def _line(losses: Mapping[str, float], steps: int) -> str:
    learned = f"loss {losses['loss']:.4f}, " if "loss" in losses else ""
    each = ", ".join(f"{key.replace('_', ' ')} {value:.4f}" for key, value in losses.items() if "held_out" in key)
    return f"step {losses['step']:.0f}/{steps}: {learned}{each}"

"""The training loop: it owns time. The task that it drives owns the gradients.

Everything random is a function of the seed, the step and the process, and everything else that changes is in the
checkpoint, so that a run that was killed and resumed ends with the very weights of one that was not, bit for bit on a
CPU with the same number of threads and the same precision.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

import torch
from accelerate import Accelerator
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from brainvq.config import Config
from brainvq.errors import InputError
from brainvq.training import checkpoint
from brainvq.training.devices import Precision, resolve
from brainvq.training.interrupt import Interrupted, listening
from brainvq.training.log import Log


class TrainConfig(Config):
    """Time.

    Args:
        steps: optimiser steps; wins over `epochs` when both are set.
        epochs: passes over the training images.
        batch_size: images a step, over all processes together.
        learning_rate: its largest value.
        checkpoint_every, validate_every: in steps.
        seed: of weights, data order and everything random.
        precision: of training alone; "auto" is bf16 where the hardware multiplies it, else fp32.
        keep: the weights that the run hands out are the "best" on validate (by SSIM, a prior by bits), or the "last".
    """

    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None
    batch_size: PositiveInt = 32
    learning_rate: PositiveFloat = 1e-3
    checkpoint_every: PositiveInt = 200
    validate_every: PositiveInt = 200
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    precision: Precision = "auto"
    keep: Literal["best", "last"] = "best"

    def total(self, images: int) -> int:
        """Steps for a training set of so many images."""
        if self.steps is None and self.epochs is None:
            raise InputError("neither train.steps nor train.epochs is set. Set one, such as --set train.epochs=10.")
        return self.steps if self.steps is not None else math.ceil((self.epochs or 0) * images / self.batch_size)


Batch = TypeVar("Batch", contravariant=True)
"""What a task learns from: images x (B, 1, *S), or codes."""


class Task(Protocol[Batch]):
    """What the loop drives."""

    def step(self, batch: Batch, /, step: int, total: int) -> dict[str, Tensor]:
        """One optimiser step on this process's share of the batch; scalars to log, the loss under "loss"."""

    def validate(self, batches: Iterable[Batch], /) -> dict[str, float]:
        """Measures; "score" is what the best checkpoint is chosen by, higher is better."""

    def state(self) -> dict[str, Tensor]:
        """All that must be saved to go on."""

    def load_state(self, tensors: Mapping[str, Tensor]) -> None: ...

    def weights(self) -> dict[str, Tensor]:
        """The weights to hand out."""


class Diverged(InputError):
    """A loss term is no longer finite."""


class Loop(Generic[Batch]):
    """Drives `task` for `total` steps, writing into the run folder `run`.

    Args:
        batch: step -> this process's share of the batch.
        validation: the batches to validate on.
        save_model: writes the weights to hand out.
        watch: called with every event that is logged.
    """

    LOG_EVERY = 10

    def __init__(
        self,
        task: Task[Batch],
        config: TrainConfig,
        total: int,
        run: Path,
        accelerator: Accelerator,
        *,
        batch: Callable[[int], Batch],
        validation: Callable[[], Iterable[Batch]],
        save_model: Callable[[dict[str, Tensor]], None],
        watch: Callable[[dict[str, Any]], None],
    ) -> None:
        self.task, self.config, self.total, self.run, self.accelerator = task, config, total, run, accelerator
        self.batch, self.validation, self.save_model, self.watch = batch, validation, save_model, watch
        self.step, self.seconds, self.started, self.best = 0, 0.0, 0.0, -math.inf
        self.terms: list[dict[str, Tensor]] = []
        self.checkpoint: Path | None = None
        self.log = Log(run / "log.jsonl", enabled=accelerator.is_main_process)

    def fit(self) -> None:
        """Train to the end, from the newest checkpoint if there is one.

        Raises:
            Interrupted: SIGINT or SIGTERM came; a checkpoint was written.
            Diverged: a loss term is not finite.
            InputError: a checkpoint cannot be written.
        """
        self._resume()
        with listening(
            lambda: self._note("stopping after this step; again to stop at once."), self._start_clock
        ) as stop:
            while self.step < self.total:
                self._advance()
                if self.step % self.LOG_EVERY == 0 or self.step == self.total:
                    self._report()
                if self.step % self.config.validate_every == 0 or self.step == self.total:
                    self._validate()
                if self.step % self.config.checkpoint_every == 0 or self.step == self.total:
                    self._save()
                if (signum := self._asked_to_stop(stop)) and self.step < self.total:
                    self._save()
                    raise Interrupted(
                        signum, f"stopped at step {self.step}; a checkpoint is written. Continue with --resume."
                    )

    def _start_clock(self) -> None:
        """Of the present step; anew when the process was suspended meanwhile."""
        self.started = time.perf_counter()

    def _advance(self) -> None:
        self._start_clock()
        torch.manual_seed(hash((self.config.seed, self.step, self.accelerator.process_index)) % 2**63)
        self.terms.append(self.task.step(self.batch(self.step), self.step, self.total))
        self.step += 1
        self.seconds += time.perf_counter() - self.started

    def _report(self) -> None:
        """Log the mean of each term since the last report; this is where the host waits for the device."""
        if not self.terms:
            return
        self._start_clock()
        values = torch.stack([torch.stack([*terms.values()]).float() for terms in self.terms])
        values = self.accelerator.reduce(values, "mean").cpu()
        self.seconds += time.perf_counter() - self.started
        self._refuse_non_finite(values)
        means = dict(zip(self.terms[0], values.mean(0).tolist(), strict=True))
        self.terms.clear()
        self._emit("train", means)

    def _refuse_non_finite(self, values: Tensor) -> None:
        broken = (~values.isfinite()).nonzero()
        if len(broken):
            row, column = broken[0].tolist()
            name, step = list(self.terms[0])[column], self.step - len(values) + row
            raise Diverged(
                f"{name} is {values[row, column].item()} at step {step}. The last good checkpoint: {self.checkpoint}. "
                "Lower train.learning_rate, set task.optimiser.clip, or train in fp32 (train.precision=fp32)."
            )

    def _validate(self) -> None:
        self._report()  # names the term that is not finite before a measure stumbles over it
        measures = self.task.validate(self.validation())
        score = measures.pop("score")
        self._emit("validate", measures)
        if score >= self.best and self.config.keep == "best":
            self._hand_out()
        self.best = max(score, self.best)

    def _save(self) -> None:
        self._report()  # also refuses what is not finite
        if self.accelerator.is_main_process:
            best = self.best if math.isfinite(self.best) else None
            state = {"seconds": self.seconds, "best": best, "total": self.total, **self._setting()}
            self.log.flush()
            self.checkpoint = checkpoint.save(self.run / "checkpoints", self.step, self.task.state(), state)
        if self.config.keep == "last" or self.step == 0:
            self._hand_out()
        self.accelerator.wait_for_everyone()

    def _hand_out(self) -> None:
        if self.accelerator.is_main_process:
            self.save_model(self.task.weights())

    def _resume(self) -> None:
        found = checkpoint.newest(self.run / "checkpoints", self._note)
        self.accelerator.wait_for_everyone()  # all have looked before the first one writes
        if found is None:
            if (self.run / "model.safetensors").exists():
                raise InputError(f"{self.run} has weights but no whole checkpoint to go on from. Give another --out.")
            self._save()
            return
        if found.step > self.total:
            raise InputError(f"{self.run} is at step {found.step}, and {self.total} are asked for. Ask for more.")
        self.step, self.seconds, self.checkpoint = found.step, found.state["seconds"], found.path
        self.best = -math.inf if found.state["best"] is None else found.state["best"]
        self.task.load_state(found.tensors)
        self.log.truncate(self.step)
        for name, value in {"total": self.total, **self._setting()}.items():
            before = found.state.get(name, value)
            if before != value:
                what = "the learning-rate schedule" if name == "total" else name
                self._note(f"{what} was {before} and is {value} now: the weights will not be bit-equal.")
        self._emit("resume", {})
        if self.config.keep == "last":
            self._hand_out()  # a kill may have come between checkpoint and weights

    def _setting(self) -> dict[str, Any]:
        return {
            "threads": torch.get_num_threads(),
            "precision": resolve(self.config.precision),
            "processes": self.accelerator.num_processes,
            "device": self.accelerator.device.type,
            "torch": torch.__version__,
        }

    def _note(self, message: str) -> None:
        self._emit("note", {"message": message})

    def _emit(self, event: str, values: dict[str, Any]) -> None:
        images = self.step * self.config.batch_size
        line = {"event": event, "step": self.step, "images": images, "seconds": round(self.seconds, 3), **values}
        self.log.write(line)
        self.watch({**line, "total": self.total, "images_per_second": images / max(self.seconds, 1e-9)})

    def _asked_to_stop(self, stop: list[int]) -> int:
        """The signal that any process received."""
        if self.accelerator.num_processes == 1:
            return stop[0]
        if self.accelerator.device.type != "cpu" and self.step % self.LOG_EVERY:
            return 0  # asking makes the host wait for the device
        mine = torch.tensor([stop[0]], device=self.accelerator.device)
        return int(self.accelerator.gather(mine).max())
